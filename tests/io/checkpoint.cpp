// SPDX-License-Identifier: Apache-2.0
// Parameters through files: bit-exact both ways, strict about foreign files, all or nothing.
#include "deepseek/io/checkpoint.hpp"

#include <doctest/doctest.h>

#include <cstring>
#include <fstream>

#include "deepseek/layers/initialize.hpp"

#include "support/temp_dir.hpp"
#include "support/throws.hpp"

namespace ds = deepseek;

namespace {

template <ds::index_t Rows, class T>
struct weights_of {
  struct layer {};
  ds::tensor<T, ds::host, Rows, 4> matrix;
  ds::tensor<float, ds::host, 3> load;
  static constexpr auto fields() {
    return std::tuple{ds::named("matrix", &weights_of::matrix),
                      ds::buffer("load", &weights_of::load)};
  }
};
using weights = weights_of<3, float>;

struct more {
  struct layer {};
  weights inner;
  ds::tensor<ds::bf16, ds::host, 2> extra;
  static constexpr auto fields() {
    return std::tuple{ds::named("", &more::inner), ds::named("extra", &more::extra)};
  }
};

weights numbered() {
  weights w;
  for (int i = 0; i < 12; ++i) w.matrix.data()[i] = 0.1f * static_cast<float>(i);
  w.load.data()[2] = -0.0f;
  return w;
}
bool same(const weights& a, const weights& b) {
  return std::memcmp(a.matrix.data(), b.matrix.data(), 48) == 0 &&
         std::memcmp(a.load.data(), b.load.data(), 12) == 0;
}

}  // namespace

TEST_CASE("what is saved is loaded, bit for bit, buffers too") {
  const support::temp_dir folder;
  const weights saved = numbered();
  ds::save_parameters(folder / "w.safetensors", saved);
  weights loaded;
  ds::load_parameters(folder / "w.safetensors", loaded);
  CHECK(same(saved, loaded));
  more m;
  m.extra.data()[1] = ds::bf16(1.5f);
  ds::save_parameters(folder / "m.safetensors", m);
  more back;
  ds::load_parameters(folder / "m.safetensors", back);
  CHECK(back.extra.data()[1].bits == m.extra.data()[1].bits);
}

TEST_CASE("a foreign or damaged file changes nothing and says what is wrong") {
  const support::temp_dir folder;
  const auto path = folder / "w.safetensors";
  ds::save_parameters(path, numbered());
  more wants_more;
  CHECK_ERROR(ds::error_code::missing_tensor, "1 tensors", "extra",
              ds::load_parameters(path, wants_more));
  weights_of<4, float> taller;
  CHECK_ERROR(ds::error_code::shape_mismatch, "matrix", "[3, 4]", "[4, 4]",
              ds::load_parameters(path, taller));
  weights_of<3, double> wider;
  CHECK_ERROR(ds::error_code::dtype, "matrix", "F32", "F64", ds::load_parameters(path, wider));
  ds::save_parameters(folder / "m.safetensors", more{});
  weights fewer = numbered();
  CHECK_ERROR(ds::error_code::unexpected_tensor, "extra",
              ds::load_parameters(folder / "m.safetensors", fewer));
  CHECK(same(fewer, numbered()));
  std::filesystem::resize_file(path, std::filesystem::file_size(path) - 1);
  CHECK_ERROR(ds::error_code::truncated, "w.safetensors", ds::load_parameters(path, fewer));
  CHECK(same(fewer, numbered()));
  CHECK_ERROR(ds::error_code::io, "absent", ds::load_parameters(folder / "absent", fewer));
}

TEST_CASE("metadata: what was set is read; what is not there is an error") {
  const support::temp_dir folder;
  ds::checkpoint_writer out;
  const weights w = numbered();
  out.set("step", "7");
  out.add_parameters("model", w);
  out.write(folder / "c");
  ds::checkpoint_reader in(folder / "c");
  CHECK(in.get("step") == "7");
  CHECK_ERROR(ds::error_code::not_this_format, "seed", in.get("seed"));
  weights back;
  in.read("model.matrix", back.matrix);
  CHECK_ERROR(ds::error_code::unexpected_tensor, "model.load", in.require_nothing_left());
  in.read("model.load", back.load);
  in.require_nothing_left();
  CHECK(same(w, back));
}
