// SPDX-License-Identifier: Apache-2.0
// model<Net, T, Backend>: the parameters of a layer type in one place, with the calls people make:
//   m(b, x) -> y              inference
//   m.tape(b); m.forward(b, x, tape) -> y; m.backward(b, tape, dy, gradients)        training
//   m.decoder(b, capacity); m.decode(b, tokens, decoder) -> y                        with a cache
//   m.draft(b, next, decoder) -> y                     of a net with multi-token prediction
// A net may have several outputs: make_outputs<T>(memory, row_counts) makes a struct of views then
// (layers/with_mtp.hpp, with_heads.hpp), which forward returns and backward takes the gradients of;
// m(b, x) gives the first alone, m.outputs(b, x, memory) all of them without a tape.
//   m.launch_step(b, token, decoder, moving); decoder.advance(1)      a step that can be recorded
// Results are views into the tape, the decoder or, for m(b, x), an owning tensor.
#pragma once

#include "deepseek/core/transfer.hpp"
#include "deepseek/layers/initialize.hpp"
#include "deepseek/layers/layer.hpp"
#include "deepseek/layers/page_pool.hpp"
#include "deepseek/layers/steps_alike.hpp"
#include "deepseek/layers/written_reach.hpp"
#include "deepseek/quant/format.hpp"

#include <memory>
#include <set>

namespace deepseek {

template <class Net, class T, class S>
auto make_outputs(arena<S>& memory, const row_counts& n) {
  if constexpr (requires { Net::template make_outputs<T>(memory, n); }) {
    return Net::template make_outputs<T>(memory, n);
  } else {
    return memory.template make<T, dyn, Net::out>(output_rows<Net>(n));
  }
}

template <class Net, class T, class B>
class model {
 public:
  using net = Net;
  using value_type = T;
  using space = typename B::space;
  using parameters_type = deepseek::parameters<Net, T, space>;
  using options = run_options<space>;
  using output = tensor<T, space, dyn, Net::out>;
  using output_view = view<T, space, dyn, Net::out>;

  // All zeros: to be loaded or converted into.
  explicit model(const B&) : parameters_(std::make_unique<parameters_type>()) { check_paths(); }
  template <class Init>
  model(const B& b, const Init& init) : model(b) {
    static_assert(std::is_same_v<space, host>, "deepseek::model: initialize on the host and copy");
    initialize(init, *parameters_);
  }
  // The same numbers in this backend's memory: model<net, float, cuda> m(gpu, trained).
  template <class Other>
  model(const B& b, const model<Net, T, Other>& from) : model(b) {
    transfer_all(from.parameters(), *parameters_);
  }

  parameters_type& parameters() { return *parameters_; }
  const parameters_type& parameters() const { return *parameters_; }

  // ---- inference
  template <class X>
  output operator()(const B& b, const X& x, const options& run = {}) const {
    const auto xv = as_const(as_view(x));
    output y({output_rows<Net>(rows_of(xv, run)), Net::out});
    keep<nothing, Net, T, space> kept;
    const scope freed(b.workspace());
    run_forward<Net>(make_call(b, run, b.workspace()), *parameters_, xv, y.view(), kept);
    return y;
  }

  // Every output of a net with several; views in `memory`.
  template <class X>
  auto outputs(const B& b, const X& x, arena<space>& memory, const options& run = {}) const {
    const auto xv = as_const(as_view(x));
    const auto y = make_outputs<Net, T>(memory, rows_of(xv, run));
    keep<nothing, Net, T, space> kept;
    const scope freed(b.workspace());
    run_forward<Net>(make_call(b, run, b.workspace()), *parameters_, xv, y, kept);
    return y;
  }

  // ---- training
  class tape_type {
   public:
    explicit tape_type(const B&) {}
    std::size_t bytes() const { return memory_.bytes_peak(); }
    // Auxiliary gradients of the next backward are injected times this.
    void set_gradient_scale(double scale) { run_.gradient_scale = scale; }

   private:
    friend class model;
    arena<space> memory_;
    keep<for_backward, Net, T, space> kept_;
    options run_;
    bool recorded_ = false;
  };
  tape_type tape(const B& b) const { return tape_type(b); }

  // Records what backward needs; the result lives in the tape until the next forward.
  template <class X>
  auto forward(const B& b, const X& x, tape_type& t,
               const options& run = {.how = mode::training}) const {
    const auto xv = as_const(as_view(x));
    const scope freed(b.workspace());
    t.recorded_ = false;  // until this one has come to its end
    t.memory_.clear();
    t.run_ = run;
    const auto y = make_outputs<Net, T>(t.memory_, rows_of(xv, run));
    run_forward<Net>(make_call(b, run, t.memory_), *parameters_, xv, y, t.kept_);
    t.recorded_ = true;
    return y;
  }
  // Adds to the gradients. x is what forward got, dy the gradient of its result.
  template <class X, class DY, class G>
  void backward(const B& b, const X& x, tape_type& t, const DY& dy, G& gradients) const {
    require(t.recorded_, error_code::invalid_argument,
            "model: backward without a recorded forward; call forward(b, x, tape) first");
    const scope freed(b.workspace());
    run_backward<Net>(make_call(b, t.run_, t.memory_), *parameters_, as_const(as_view(x)),
                      as_const(as_view(dy)), none{}, t.kept_, gradients);
    t.recorded_ = false;
  }

  // ---- decoding with a cache
  // The memory of a cache in pages, which decoders share. Not for several threads at once.
  class pages_type {
   public:
    const page_pool& pool() const { return *pool_; }

   private:
    friend class model;
    std::shared_ptr<keep<for_decode, Net, T, space>> kept_;
    std::shared_ptr<page_pool> pool_;
  };
  pages_type pages(const B&, const paging& p) const {
    pages_type all;
    all.pool_ = std::make_shared<page_pool>(p);
    all.kept_ = std::make_shared<keep<for_decode, Net, T, space>>();
    reserve_pages(*all.kept_, checked_product(p.pages, p.size));
    return all;
  }

  class decoder_type {
   public:
    decoder_type(const decoder_type&) = delete;  // see fork
    decoder_type& operator=(const decoder_type&) = delete;
    decoder_type(decoder_type&&) = default;
    decoder_type& operator=(decoder_type&&) = default;

    index_t length() const { return length_; }
    index_t capacity() const { return capacity_; }
    // Positions with a draft, those that were drafted from drafts included.
    index_t drafted() const { return drafted_; }
    // Forgets positions from `length` on; pages that held nothing else are given back.
    void rewind(index_t length) {
      require(length >= 0 && length <= length_, error_code::index_range, "decoder: rewind to ",
              length, " of ", length_, " positions; choose a length from 0 to ", length_);
      length_ = length;
      drafted_ = std::clamp<index_t>(length - 1, 0, drafted_);
      pages_.keep(length);
    }
    // Whether n more positions can be written: before launches that do (model::launch_step, or a
    // recording of it). Errors: index_range.
    void require_room(index_t n) const {
      require(n >= 0 && length_ + n <= capacity_, error_code::index_range, "decoder: ", length_,
              " + ", n, " positions do not fit a capacity of ", capacity_,
              "; make the decoder larger or rewind it");
      written_.require_reached(length_);
    }
    // Counts n positions that a launched step has written.
    void advance(index_t n) {
      require(n >= 0 && length_ + n <= capacity_, error_code::index_range, "decoder: ", length_,
              " + ", n, " positions do not fit a capacity of ", capacity_);
      written_.count(length_, n);
      drafted_ = std::min(drafted_, length_);
      length_ += n;
    }
    // Another decoder that stands where this one does. Pages are shared until one of the two
    // writes into them; a cache without pages is copied.
    decoder_type fork() const {
      decoder_type other(pages_.empty() ? std::make_shared<kept_type>(*kept_) : kept_, capacity_);
      other.pages_ = pages_;
      other.length_ = length_;
      other.drafted_ = drafted_;
      other.written_ = written_;
      other.drafts_ = drafts_;
      return other;
    }

   private:
    friend class model;
    using kept_type = keep<for_decode, Net, T, space>;
    decoder_type(std::shared_ptr<kept_type> kept, index_t capacity)
        : kept_(std::move(kept)),
          written_(written_reach::of(*kept_)),
          drafts_(written_),
          capacity_(capacity) {}

    output_view logits(index_t n) {
      if (logits_.extent(0) < n) logits_ = output({n, Net::out});
      return rows(logits_.view(), 0, n);
    }
    // The options of a call that writes positions first .. end - 1 of the cache.
    options writing(const B& b, index_t first, index_t end, options run) {
      run.start = first;
      if constexpr (std::is_same_v<space, host>) {
        if (pages_.empty()) return run;
        pages_.own(first, end, [&](index_t from, index_t to) { copy_page(b, from, to); });
        run.pages = pages_.table();
      }
      return run;
    }
    void copy_page(const B& b, index_t from, index_t to) {
      const index_t size = pages_.table().size;
      visit_kept([&](auto& own) -> decltype(own.copy_page(
                                    b, from, to, size)) { own.copy_page(b, from, to, size); },
                 *kept_);
    }

    std::shared_ptr<kept_type> kept_;
    sequence_pages pages_;  // none: a cache of its own, in order
    output logits_;
    written_reach written_, drafts_;  // of the trunk's layers, of those that draft
    index_t length_ = 0, capacity_ = 0, drafted_ = 0;
  };
  decoder_type decoder(const B&, index_t capacity) const {
    require(capacity > 0, error_code::invalid_argument, "decoder: a capacity of ", capacity,
            " positions; write a number > 0");
    decoder_type d(std::make_shared<typename decoder_type::kept_type>(), capacity);
    reserve(*d.kept_, capacity);
    return d;
  }
  decoder_type decoder(const B&, const pages_type& all) const {
    static_assert(std::is_same_v<space, host>,
                  "deepseek::model: a decoder over pages keeps its page table on the host; use "
                  "decoder(b, capacity) on this backend");
    decoder_type d(all.kept_, all.pool_->pages() * all.pool_->size());
    d.pages_ = sequence_pages(all.pool_);
    return d;
  }
  // Appends tokens and returns their logits (valid until the next decode or draft with this
  // decoder). A token past the capacity is an error and changes nothing.
  template <class X>
  output_view decode(const B& b, const X& x, decoder_type& d, const options& run = {}) const {
    const auto xv = as_const(as_view(x));
    const index_t n = xv.extent(0);
    d.require_room(n);
    const output_view y = d.logits(n);
    kept_pages pages(d.pages_);
    auto here = d.writing(b, d.length_, d.length_ + n, run);
    here.written = &d.written_;
    const scope freed(b.workspace());
    run_forward<Net>(make_call(b, here, b.workspace()), *parameters_, xv, y, *d.kept_);
    pages.keep(d.length_ + n);
    d.advance(n);
    return y;
  }
  // The launches of decode for every length() with length() + rows <= run.moving.bound, alike: they
  // read the length from run.moving.at when they run, and write y. The decoder does not move:
  // advance(rows) once they are launched. serve/decode_steps.hpp records and replays them.
  template <class X>
  void launch_step(const B& b, const X& x, const output_view& y, decoder_type& d,
                   options run) const {
    static_assert(steps_alike<Net, T, space>,
                  "deepseek::model: a layer of this net keeps a cache whose launches depend on the "
                  "length; use decode");
    require(run.moving.moves() && d.pages_.empty() && run.moving.bound <= d.capacity_,
            error_code::unsupported, "decoder: a step for ", run.moving.bound,
            " positions of a capacity of ", d.capacity_, d.pages_.empty() ? "" : " in pages",
            "; give run.moving and a bound within the capacity, or use decode");
    d.require_room(as_view(x).extent(0));
    run.start = start_moves;
    const scope freed(b.workspace());
    run_forward<Net>(make_call(b, run, b.workspace()), *parameters_, as_const(as_view(x)), y,
                     *d.kept_);
  }
  // Logits for the tokens after next[0], next[1], ..., which follow the positions drafted(),
  // drafted() + 1, ...: at most length() of them. When all have a draft, one token more may be
  // given, and again one, each following the last draft; the next decode forgets these.
  template <class X>
  output_view draft(const B& b, const X& next, decoder_type& d, const options& run = {}) const {
    static_assert(PredictsFurther<Net>,
                  "deepseek::model: this net drafts nothing (it has no multi-token prediction); "
                  "build it with with_mtp or draft with a second model");
    const auto xv = as_const(as_view(next));
    const index_t n = xv.extent(0), left = d.length_ - d.drafted_;
    require(left > 0 ? n <= left : n <= 1 && d.drafted_ > 0, error_code::index_range, "draft: ", n,
            " next tokens for ", d.length_, " positions, ", d.drafted_,
            " of which have a draft; give at most one for each without, or a single one more");
    require(d.drafted_ + n <= d.capacity_, error_code::index_range, "draft: ", d.drafted_, " + ", n,
            " positions do not fit a capacity of ", d.capacity_, "; make the decoder larger");
    d.drafts_.require_reached(d.drafted_);
    const output_view y = d.logits(n);
    const index_t end = std::min(d.drafted_ + n + 1, d.capacity_);  // with the state after them
    kept_pages pages(d.pages_);
    auto here = d.writing(b, d.drafted_, end, run);
    here.written = &d.drafts_;
    const scope freed(b.workspace());
    Net::draft(make_call(b, here, b.workspace()), *parameters_, xv, y, *d.kept_, d.length_);
    pages.keep(std::max(end, d.length_));
    d.drafted_ += n;
    return y;
  }

  // ---- calibration: what the layers saw, to quantize with
  class calibration_type {
   public:
    const auto& kept() const { return kept_; }

   private:
    friend class model;
    keep<for_calibration, Net, T, space> kept_;
  };
  calibration_type calibration() const { return {}; }
  template <class X>
  void observe(const B& b, const X& x, calibration_type& seen, const options& run = {}) const {
    const auto xv = as_const(as_view(x));
    const scope freed(b.workspace());
    const auto y = make_outputs<Net, T>(b.workspace(), rows_of(xv, run));
    run_forward<Net>(make_call(b, run, b.workspace()), *parameters_, xv, y, seen.kept_);
  }

 private:
  template <class X>
  static row_counts rows_of(const X& x, const options& run) {
    return count_rows(run, input_rows<Net>(x));
  }
  static call<B> make_call(const B& b, const options& run, arena<space>& tape) {
    return {b, run, b.workspace(), tape, 0, {}};
  }
  // Room for `rows` positions in every layer's cache.
  template <class K>
  static void reserve(K& kept, index_t rows) {
    visit_kept([&](auto& own) -> decltype(own.reserve(rows)) { own.reserve(rows); }, kept);
  }
  template <class K>
  static void reserve_pages(K& kept, index_t rows) {
    visit_kept(
        [&](auto& own) -> decltype(own.reserve(rows)) {
          static_assert(
              requires { own.copy_page(std::declval<const B&>(), rows, rows, rows); },
              "deepseek::model: a layer of this net keeps a cache that cannot stand in "
              "pages; use decoder(b, capacity)");
          own.reserve(rows);
        },
        kept);
  }
  // Two equal paths would overwrite each other in a file.
  void check_paths() {
    std::set<std::string> seen;
    visit(
        [&](const tensor_name& at, auto&) {
          require(seen.insert(at.path).second, error_code::config, "model: two tensors are called ",
                  at.path, "; rename one layer with called<\"name\", layer>");
        },
        *parameters_);
  }

  std::unique_ptr<parameters_type> parameters_;
};

// ---- counts over any parameters
template <class P>
index_t parameter_count(const P& p) {
  index_t n = 0;
  visit([&](const tensor_name& at,
            const auto& t) { n += at.role == field_role::trained ? t.size() : 0; },
        p);
  return n;
}
template <class P>
index_t parameter_bytes(const P& p) {
  index_t n = 0;
  visit(
      [&](const tensor_name&, const auto& t) {
        n += t.size() *
             static_cast<index_t>(sizeof(typename std::remove_cvref_t<decltype(t)>::value_type));
      },
      p);
  return n;
}
template <class P>
void zero(P& p) {
  visit([](const tensor_name&, auto& t) { t.zero(); }, p);
}

}  // namespace deepseek
