// SPDX-License-Identifier: Apache-2.0
// encoder_decoder<Encoder, Decoder>: e = Encoder(source), y = Decoder(target; e), where
// cross_attention layers inside Decoder look at e. The input is source_and_target{source, target};
// packed batches name the sequences of the target in the call and those of the source in
// source_sequences.
//   m(b, source_and_target{source, target}), m.forward / m.backward, trainer.micro_step: as usual.
//   m.decode(b, source_and_target{source, first}, d): encodes and begins;
//   m.decode(b, source_and_target{source_type{}, next}, d): goes on with what is kept.
// y has a row for each row of the target. The encoder keeps no cache. Names: encoder, decoder.
// Source: Vaswani et al. 2017, section 3.1.
#pragma once

#include "deepseek/layers/cross_attention.hpp"
#include "deepseek/ops/fill.hpp"

namespace deepseek {

template <class Source, class Target, class Offsets = sequence_offsets<host>>
struct source_and_target {
  Source source;
  Target target;
  Offsets source_sequences{};  // empty: one sequence
  index_t extent(int i) const { return target.extent(i); }
};
template <class Source, class Target>
source_and_target(const Source&, const Target&) -> source_and_target<Source, Target>;
template <class Source, class Target, class Offsets>
source_and_target(const Source&, const Target&, const Offsets&)
    -> source_and_target<Source, Target, Offsets>;

template <class Source, class Target, class Offsets>
auto as_view(const source_and_target<Source, Target, Offsets>& x) {
  return source_and_target{as_view(x.source), as_view(x.target), x.source_sequences};
}
template <class Source, class Target, class Offsets>
auto as_const(const source_and_target<Source, Target, Offsets>& x) {
  return source_and_target{as_const(x.source), as_const(x.target), x.source_sequences};
}

// L without a cache in decoders: what runs once a sequence.
template <class L>
struct without_cache {
  static constexpr index_t out = L::out;
  static constexpr const char* label = L::label;
  template <class F>
  using with_format = without_cache<reformatted<L, F>>;
  template <class T, class S>
  struct parameters : deepseek::parameters<L, T, S> {
    using layer = without_cache;
  };
  template <class T, class S>
  using saved = keep<for_backward, L, T, S>;
  template <class T, class S>
  using observed = keep<for_calibration, L, T, S>;

  template <class C, class P, class X, class Y, class K>
  static void forward(const C& c, const P& p, const X& x, const Y& y, K& k) {
    if constexpr (keeps_tape<K> || observes<K>) {
      run_forward<L>(c, p, x, y, k.own);
    } else {
      keep<nothing, L, typename Y::value_type, typename C::space> forgotten;
      run_forward<L>(c, p, x, y, forgotten);
    }
  }
  template <class C, class P, class X, class DY, class DX, class K, class G>
  static void backward(const C& c, const P& p, const X& x, const DY& dy, const DX& dx, K& k, G& g) {
    run_backward<L>(c, p, x, dy, dx, k.own, g);
  }
  template <class P, class K, class Q>
  static void convert(const std::string& path, const P& p, const K& k, Q& q) {
    if constexpr (has_fields<P>) {
      using Inner = typename deepseek::parameters<L, float, host>::layer;
      if constexpr (requires { Inner::convert(path, p, k.own, q); }) {
        Inner::convert(path, p, k.own, q);
      } else {
        convert_fields(path, p, k.own, q);
      }
    }
  }
};

template <class Encoder, class Decoder>
struct encoder_decoder {
  static constexpr index_t W = Encoder::out, out = Decoder::out;
  static constexpr const char* label = "";
  template <class F>
  using with_format = encoder_decoder<reformatted<Encoder, F>, reformatted<Decoder, F>>;

  template <class Of>
  struct parts {
    using layer = encoder_decoder;
    each<Of, without_cache<Encoder>> encoder;
    each<Of, Decoder> decoder;
    static constexpr auto fields() {
      return std::tuple{named("encoder", &parts::encoder), named("decoder", &parts::decoder)};
    }
  };
  template <class T, class S>
  struct saved {
    view<T, S, dyn, W> e;
  };

  template <class C, class P, class X, class Y, class K>
  static void forward(const C& c, const P& p, const X& x, const Y& y, K& k) {
    using T = typename Y::value_type;
    const scope freed(c.scratch);
    const auto e = c.template arena_for<K>().template make<T, dyn, W>(x.source.extent(0));
    const bool encodes = x.source.extent(0) > 0 || c.options.start == 0;
    if (encodes) run_forward(at_source(c, x), p.encoder, x.source, e, k.encoder);
    const encoder_rows<T, typename C::space, W> lent{e, x.source_sequences, encodes};
    run_forward<Decoder>(c.in(1).template with<encoder_output>(lent), p.decoder, x.target, y,
                         k.decoder);
    if constexpr (keeps_tape<K>) k.own = {e};
  }

  // dx: none, or source_and_target of the gradients.
  template <class C, class P, class X, class DY, class DX, class K, class G>
  static void backward(const C& c, const P& p, const X& x, const DY& dy, const DX& dx, K& k, G& g) {
    using T = typename DY::value_type;
    const scope freed(c.scratch);
    const auto de = c.scratch.template make<T, dyn, W>(x.source.extent(0));
    ops::fill(c.backend, 0, de);
    const encoder_rows<T, typename C::space, W> lent{k.own.e, x.source_sequences, true};
    const auto inside = c.in(1).template with<encoder_output>(lent, de);
    if constexpr (std::is_same_v<DX, none>) {
      run_backward<Decoder>(inside, p.decoder, x.target, dy, none{}, k.decoder, g.decoder);
      run_backward(at_source(c, x), p.encoder, x.source, as_const(de), none{}, k.encoder,
                   g.encoder);
    } else {
      run_backward<Decoder>(inside, p.decoder, x.target, dy, dx.target, k.decoder, g.decoder);
      run_backward(at_source(c, x), p.encoder, x.source, as_const(de), dx.source, k.encoder,
                   g.encoder);
    }
  }

 private:
  // The call for the source: its own sequences, from position 0.
  template <class C, class X>
  static C at_source(const C& c, const X& x) {
    C at = c.in(0);
    at.options.sequences = x.source_sequences;
    at.options.start = 0;
    at.options.sequence_length = 0;
    at.options.pages = {};
    return at;
  }
};

}  // namespace deepseek
