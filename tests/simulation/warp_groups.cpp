// SPDX-License-Identifier: Apache-2.0
// Products of warp groups, copied tiles and their barriers, simulated: products of tiles equal
// plain sums in both orders of the right factor, zeros outside a tensor; what is read too early is
// poison; misuse is an error.
#include "deepseek/backend/cuda/bulk_copy.hpp"
#include "deepseek/backend/cuda/warp_group.hpp"

#include "simulation/device.hpp"
#include "support/report.hpp"
#include "support/throws.hpp"

#include <doctest/doctest.h>

namespace ds = deepseek;
namespace mma = deepseek::mma;
namespace wg = deepseek::warp_group;
namespace bulk = deepseek::bulk;

namespace {

using T = ds::bf16;

enum class mistake {
  none,
  no_wait_for_tile,
  no_wait_for_product,
  wait_for_all_but_this,
  no_fence,
  no_commit,
  no_publish,
  one_arrival_more,
  too_many_registers,
  one_warp_alone
};

// c [64, N]: a [64, 64], in shared memory, in registers or put by the threads, times b, [N, 64] as
// rows of sums or [64, N] as rows of columns.
enum class left { shared, registers, put };
template <int N, bool Columns, left Left = Columns ? left::registers : left::shared>
struct product {
  static constexpr int threads = 128, parts = N / 64;  // of b, each 64 rows or columns
  bulk::tile_map a, b;
  float* c;
  mistake what;

  ds::index_t blocks() const { return 1; }
  static constexpr int lefts = Left == left::put ? 2 : 1;  // a as it came; as it was put
  static std::size_t shared_bytes() { return 1024 + (lefts + parts) * 8192 + 16; }

  template <class Block>
  void operator()(const Block& block) const {
    std::byte* const first =
        block.shared() + (1024 - wg::shared_address(block, block.shared()) % 1024) % 1024;
    std::byte* const second = first + lefts * 8192;
    auto& full = *reinterpret_cast<bulk::barrier*>(second + parts * 8192);
    if (block.rank() == 0) bulk::make(block, full, 1);
    block.sync();
    if (block.rank() == 0) {
      bulk::arrive_expecting(block, full, 8192 + parts * 8192);
      bulk::copy_tile(block, first, a, {{0, 0, 0}}, full);
      for (int i = 0; i < parts; ++i) {
        const bulk::tile_place at{{Columns ? i * 64 : 0, 0, Columns ? 0 : i * 64}};
        bulk::copy_tile(block, second + i * 8192, b, at, full);
      }
      if (what == mistake::one_arrival_more) bulk::arrive(block, full);
    }
    if (what != mistake::no_wait_for_tile) bulk::wait(block, full, 0);
    if (what == mistake::too_many_registers) wg::take_registers<256>(block);
    if (what == mistake::one_warp_alone && block.warp() > 0) return;
    const std::byte* const left_factor = first + (lefts - 1) * 8192;
    if constexpr (Left == left::put) put_again(block, first);
    mma::c_part<T> sums[N / 8] = {};
    if (what != mistake::no_fence) wg::fence(block, sums);
    for (int k = 0; k < 4; ++k) step(block, left_factor, second, k, sums);
    if (what != mistake::no_commit) wg::commit(block);
    if (what == mistake::wait_for_all_but_this) {
      wg::wait_for_earlier(block);
    } else if (what != mistake::no_wait_for_product) {
      wg::wait(block, sums);
    }
    for (int n = 0; n < N / 8; ++n) {
      for (int i = 0; i < 4; ++i) {
        const auto at = mma::c_place(block.lane(), i);
        c[(block.warp() * 16 + at.row) * N + n * 8 + at.column] = sums[n].x[i];
      }
    }
    wg::wait(block, sums);
  }

 private:
  // Each thread half a row: what came to `from` is put behind it.
  template <class Block>
  void put_again(const Block& block, std::byte* from) const {
    for (int i = 0; i < 64; i += 4) {
      const int at = block.rank() * 64 + i;
      std::uint32_t word = 0;
      std::memcpy(&word, from + at, sizeof word);
      wg::put(block, from + 8192 + at, word);
    }
    if (what != mistake::no_publish) wg::publish(block);
    wg::sync(block);
  }
  template <class Block>
  static void step(const Block& block, const std::byte* first, const std::byte* second, int k,
                   mma::c_part<T> (&sums)[N / 8]) {
    if constexpr (Left != left::registers) {
      const auto a_step = wg::rows_of_sums(block, first) + k * 32;
      if constexpr (Columns) {
        wg::multiply_add(block, sums, a_step,
                         wg::rows_of_columns(block, second, 8192) + k * 16 * wg::row_bytes, k > 0);
      } else {
        wg::multiply_add(block, sums, a_step, wg::rows_of_sums(block, second) + k * 32, k > 0);
      }
    } else {
      mma::a_part mine;
      for (int word = 0; word < 4; ++word) {
        const auto at = mma::a_place<T>(block.lane(), word, 0);
        const int row = block.warp() * 16 + at.row, unit = k * 2 + at.column / 8;
        std::memcpy(&mine.word[word],
                    first + row * 128 + mma::swizzled(row, unit, 8) * 16 + at.column % 8 * 2, 4);
      }
      wg::multiply_add(block, sums, mine,
                       wg::rows_of_columns(block, second, 8192) + k * 16 * wg::row_bytes);
    }
  }
};

// How many elements of c are not the sums.
template <int N, bool Columns, left Left = Columns ? left::registers : left::shared>
int wrong(mistake what) {
  constexpr int rows_of_b = (Columns ? 64 : N) - 4;  // the last 4 are outside
  alignas(16) static T a[64 * 64], b[64 * N];
  for (int i = 0; i < 64 * 64; ++i) a[i] = T(i * 7 % 13 - 6);
  for (int i = 0; i < 64 * N; ++i) b[i] = T(i * 5 % 11 - 5);
  constexpr int width = Columns ? N : 64;  // of b's rows
  const bulk::tile_source first{a, {64, 1, 64}, {128, 128}, {64, 1, 64}};
  const bulk::tile_source second{b, {width, 1, rows_of_b}, {2 * width, 2 * width}, {64, 1, 64}};
  std::vector<float> c(64 * N);
  simulation::host_device{}.launch(product<N, Columns, Left>{
      simulation::simulated_map(first), simulation::simulated_map(second), c.data(), what});
  int bad = 0;
  for (int row = 0; row < 64; ++row) {
    for (int column = 0; column < N; ++column) {
      float sum = 0;
      for (int k = 0; k < 64; ++k) {
        const bool there = (Columns ? k : column) < rows_of_b;
        const float y = Columns ? b[k * N + column] : b[column * 64 + k];
        sum += a[row * 64 + k] * (there ? y : 0.0F);
      }
      bad += c[static_cast<std::size_t>(row * N + column)] == sum ? 0 : 1;
    }
  }
  return bad;
}

}  // namespace

TEST_CASE("warp groups: products through matrix descriptors") {
  CHECK(wrong<64, false>(mistake::none) == 0);
  CHECK(wrong<64, true>(mistake::none) == 0);
  CHECK(wrong<128, true>(mistake::none) == 0);
  CHECK(wrong<256, false>(mistake::none) == 0);
  CHECK(wrong<256, true, left::shared>(mistake::none) == 0);
  CHECK(wrong<64, false, left::put>(mistake::none) == 0);
  CHECK(wrong<256, true, left::put>(mistake::none) == 0);
  // As the PTX manual says: address / 16, offsets / 16, the mode in the last two bits.
  static_assert(wg::matrix::of(0x12400, 8192, 1024).word ==
                (std::uint64_t{1} << 62 | std::uint64_t{64} << 32 | 512U << 16 | 0x1240U));
}

TEST_CASE("warp groups: what is read too early is poison") {
  CHECK(wrong<64, true>(mistake::no_wait_for_product) == 64 * 64);
  CHECK(wrong<256, false>(mistake::wait_for_all_but_this) == 64 * 256);
}

TEST_CASE("warp groups: misuse is an error") {
  using ds::error_code;
  const auto run = [](mistake what) { (void)wrong<64, false>(what); };
  CHECK_ERROR(error_code::device, "without a fence", "products", run(mistake::no_fence));
  CHECK_ERROR(error_code::device, "not published", "words",
              (void)wrong<64, false, left::put>(mistake::no_publish));
  CHECK_ERROR(error_code::device, "nobody committed", "products", run(mistake::no_commit));
  CHECK_ERROR(error_code::device, "one more", "of 1 arrivals", run(mistake::one_arrival_more));
  CHECK_ERROR(error_code::device, "256 registers after 512", "simulation",
              run(mistake::too_many_registers));
  CHECK_ERROR(error_code::device, "stands", "threads", run(mistake::one_warp_alone));
  CHECK_ERROR(error_code::device, "that nobody made", "barrier", [] {
    simulation::barrier_book book;
    (void)book.at(nullptr);
  }());
}
