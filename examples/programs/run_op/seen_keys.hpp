// SPDX-License-Identifier: Apache-2.0
// run_op: who sees whom and what happens to the scores, as a case of attention says. Without
// `pattern` it is the tensor mask [n, m]; in the text of `pattern` these names stand for tensors of
// the case: mask; documents (documents: lengths); global_set (globals: positions, ascending);
// index_set (ids [n, count]) and shared_set (ids [count]); given_blocks (blocks [a, b] U8 of
// `block` positions). Modifiers: alibi true (the slopes of h heads) or slopes [h] F64; soft_cap.
#pragma once

#include "run_op/op_rows.hpp"
#include "run_op/pattern_text.hpp"

#include "deepseek/pattern/alibi.hpp"
#include "deepseek/pattern/documents.hpp"
#include "deepseek/pattern/given_blocks.hpp"
#include "deepseek/pattern/global_tokens.hpp"
#include "deepseek/pattern/index_set.hpp"
#include "deepseek/pattern/soft_cap.hpp"

namespace run_op {

using seen_pattern = ds::scored<ds::scored<ds::any_pattern, ds::alibi<ds::dyn>>, ds::soft_cap<>>;

// The tensors that the pattern borrows, and the spec.
class seen_keys {
 public:
  // Attention of `queries` by `keys` with `heads`.
  seen_keys(op_case& in, index_t queries, index_t keys, index_t heads)
      : in_(in), queries_(queries), keys_(keys) {
    const bool named = in.has("pattern");
    spec.pattern = {{named ? named_pattern() : mask(), slopes(heads)},
                    ds::soft_cap<>(in.number("soft_cap", std::numeric_limits<double>::infinity()))};
    spec.scale = in.number("scale", 0);
    ds::require(spec.scale != 0 || !in.has("scale"), error_code::invalid_argument, in.op(),
                ": scale is 0; leave it out for 1 / sqrt(d)");
    spec.start = in.integer("start", named ? -1 : 0);
  }
  seen_keys(const seen_keys&) = delete;  // spec borrows
  seen_keys& operator=(const seen_keys&) = delete;

  ds::attention_spec<seen_pattern> spec;

 private:
  ds::any_pattern named_pattern() {
    const ds::pattern_key key{static_cast<std::uint64_t>(in_.integer("seed", 0)),
                              static_cast<std::uint32_t>(in_.integer("site", 0))};
    return pattern_of_text(in_.word("pattern", ""), key,
                           [this](const std::string& name) { return table(name); });
  }
  std::function<ds::any_pattern()> table(const std::string& name) {
    if (name == "mask") return [this] { return mask(); };
    if (name == "documents") return [this] { return documents(); };
    if (name == "global_set") return [this] { return globals(); };
    if (name == "index_set") return [this] { return listed(); };
    if (name == "shared_set") return [this] { return shared(); };
    if (name == "given_blocks") return [this] { return blocks(); };
    return {};
  }
  ds::any_pattern mask() {
    mask_ = in_.read_mask<2>("mask");
    return ds::any_pattern(masked(in_, mask_, queries_, keys_).pattern);
  }
  ds::any_pattern documents() {
    const auto lengths = in_.read_ids<1>("documents");
    const auto v = lengths.view();
    std::vector<index_t> each;
    for (index_t i = 0; i < v.extent(0); ++i) each.push_back(v(i));
    offsets_ = ds::document_offsets(each);
    return ds::any_pattern(ds::documents(ds::view<const std::int32_t, ds::host, ds::dyn>(
        offsets_.data(), {static_cast<index_t>(offsets_.size())})));
  }
  ds::any_pattern globals() {
    globals_ = in_.read_ids<1>("globals");
    return ds::any_pattern(ds::global_set(globals_.view()));
  }
  ds::any_pattern listed() {
    ids_ = in_.read_ids<2>("ids");
    ds::require(ids_.extent(0) == queries_, error_code::shape_mismatch, in_.op(), ": ids have ",
                ids_.extent(0), " rows for ", queries_, " queries; pass one row for each");
    return ds::any_pattern(ds::index_set(ids_.view()));
  }
  ds::any_pattern shared() {
    shared_ = in_.read_ids<1>("ids");
    return ds::any_pattern(ds::index_set::shared(shared_.view()));
  }
  ds::any_pattern blocks() {
    blocks_ = in_.read_mask<2>("blocks");
    return ds::any_pattern(ds::given_blocks(blocks_.view(), in_.integer("block")));
  }
  ds::alibi<ds::dyn> slopes(index_t heads) {
    if (in_.gives("slopes")) {
      slopes_ = in_.read_f64<1>("slopes");
    } else {
      const bool published = in_.flag("alibi", false);
      slopes_ = array<double, 1>({heads});
      for (index_t h = 0; h < heads; ++h) {
        slopes_.data()[h] = published ? ds::alibi_slope(heads, h) : 0;
      }
    }
    return ds::alibi<ds::dyn>(slopes_.view());
  }

  op_case& in_;
  index_t queries_, keys_;
  array<std::uint8_t, 2> mask_, blocks_;
  array<std::int32_t, 1> globals_, shared_;
  array<std::int32_t, 2> ids_;
  array<double, 1> slopes_;
  std::vector<std::int32_t> offsets_;
};

}  // namespace run_op
