// SPDX-License-Identifier: Apache-2.0
// What only sm_90 has, simulated: barriers that count arrivals and bytes, tiles that arrive late
// (and poison their place from the start), words put for products that are poison until published,
// products of warp groups that read shared memory through their descriptors, at once or not before
// the wait, and whose sums are poison until then.
#pragma once

#include "deepseek/backend/cuda/bulk_copy.hpp"
#include "deepseek/backend/cuda/warp_group.hpp"

#include <cstring>
#include <map>
#include <utility>
#include <vector>

namespace simulation {

namespace ds = deepseek;
namespace mma = deepseek::mma;

// Addresses of shared memory as descriptors have them: the kernel's part begins behind what the
// hardware and the block keep.
constexpr std::uint32_t first_address = 1024 + ds::reserved_bytes;
constexpr int launch_registers(int threads) {
  return 65536 / threads / 8 * 8;
}

// The 128-byte swizzle: bits 4-6 of an address are exchanged by bits 7-9.
constexpr std::uint32_t swizzled(std::uint32_t address) {
  return address ^ (address >> 7 & 7) << 4;
}

struct shared_window {
  std::byte* data;
  std::size_t bytes;

  std::uint32_t address(const void* p) const {
    return static_cast<std::uint32_t>(static_cast<const std::byte*>(p) - data) + first_address;
  }
  std::byte* at(std::uint32_t address) const {
    ds::require(address >= first_address && address - first_address + 2 <= bytes,
                ds::error_code::device, "simulation: address ", address,
                " is outside the shared memory of ", bytes, " bytes from ", first_address);
    return data + (address - first_address);
  }
  std::uint16_t element(std::uint32_t address) const {
    std::uint16_t bits;
    std::memcpy(&bits, at(swizzled(address)), sizeof bits);
    return bits;
  }
};

struct barrier_state {
  int arrivals = 0, pending = 0;
  ds::index_t bytes = 0;
  unsigned phases = 0;  // that are over

  void change(int came, ds::index_t more) {
    ds::require(came <= pending, ds::error_code::device, "simulation: a barrier of ", arrivals,
                " arrivals gets one more in its phase ", phases);
    pending -= came;
    bytes += more;
    if (pending > 0 || bytes != 0) return;
    ++phases;
    pending = arrivals;
  }
  bool over(int parity) const { return static_cast<int>(phases & 1) != parity; }
};

class barrier_book {
 public:
  void clear() { all_.clear(); }
  void make(const void* at, int arrivals) {
    ds::require(arrivals > 0 && all_.find(at) == all_.end(), ds::error_code::device,
                "simulation: a barrier of ", arrivals, " arrivals, or made twice");
    all_[at] = {arrivals, arrivals};
  }
  barrier_state& at(const void* at) {
    const auto found = all_.find(at);
    ds::require(found != all_.end(), ds::error_code::device,
                "simulation: a barrier that nobody made");
    return found->second;
  }

 private:
  std::map<const void*, barrier_state> all_;
};

// A tile on its way.
struct late_tile {
  std::uint32_t to;
  ds::bulk::tile_source from;
  ds::bulk::tile_place place;
  const void* barrier;

  int rows() const { return from.box[1] * from.box[2]; }
  void poison(const shared_window& memory) const {
    for (int i = 0; i < rows() * 64; ++i) {
      std::memset(memory.at(to + static_cast<std::uint32_t>(i) * 2), 0xff, 2);
    }
  }
  void land(const shared_window& memory, barrier_book& barriers) const {
    for (int i = 0; i < rows() * 64; ++i) {
      const int row = i / 64;
      const ds::index_t at[] = {place.at[0] + i % 64, place.at[1] + row % from.box[1],
                                place.at[2] + row / from.box[1]};
      std::uint16_t bits = 0;
      if (inside(at)) {
        const auto* const p = static_cast<const std::byte*>(from.data) + at[0] * 2 +
                              at[1] * from.strides[0] + at[2] * from.strides[1];
        std::memcpy(&bits, p, sizeof bits);
      }
      std::memcpy(memory.at(swizzled(to + static_cast<std::uint32_t>(i) * 2)), &bits, sizeof bits);
    }
    barriers.at(barrier).change(0, -ds::index_t{128} * rows());
  }

 private:
  bool inside(const ds::index_t (&at)[3]) const {
    for (int i = 0; i < 3; ++i) {
      if (at[i] < 0 || at[i] >= from.extents[i]) return false;
    }
    return true;
  }
};
// How a tile may look: what cuTensorMapEncodeTiled asks.
inline ds::bulk::tile_map simulated_map(const ds::bulk::tile_source& s) {
  bool good = reinterpret_cast<std::uintptr_t>(s.data) % 16 == 0 && s.box[0] == 64;
  for (int i = 0; i < 3; ++i) {
    good = good && s.extents[i] > 0 && s.extents[i] <= ds::index_t{1} << 32 && s.box[i] > 0 &&
           s.box[i] <= 256;
  }
  for (const ds::index_t stride : s.strides) {
    good = good && stride > 0 && stride % 16 == 0 && stride < ds::index_t{1} << 40;
  }
  ds::require(good, ds::error_code::device, "simulation: a tile of ", s.box[0], " x ", s.box[1],
              " x ", s.box[2], " that a tensor map cannot say");
  ds::bulk::tile_map map{};
  static_assert(sizeof s <= sizeof map.bytes);
  std::memcpy(map.bytes, &s, sizeof s);
  return map;
}

// A descriptor as the hardware reads it.
struct operand_matrix {
  std::uint32_t start, leading, stride;

  explicit operand_matrix(std::uint64_t word)
      : start(static_cast<std::uint32_t>(word & 0x3fff) << 4),
        leading(static_cast<std::uint32_t>(word >> 16 & 0x3fff) << 4),
        stride(static_cast<std::uint32_t>(word >> 32 & 0x3fff) << 4) {
    ds::require(word >> 62 == 1 && (word >> 49 & 7) == 0, ds::error_code::device,
                "simulation: a matrix of swizzle mode ", word >> 62, " and base offset ",
                word >> 49 & 7, "; only 128-byte swizzles at multiples of 1024 are simulated");
  }
  // Element k of row r, rows summed over: cores of eight rows of 128 bytes.
  std::uint32_t in_row(int r, int k) const {
    return start + as(r / 8) * stride + as(r % 8) * 128 + as(k) * 2;
  }
  // Element k of column n, rows of 64 columns: cores of eight k.
  std::uint32_t in_column(int n, int k) const {
    return start + as(n / 64) * leading + as(k / 8) * stride + as(k % 8) * 128 + as(n % 64) * 2;
  }

 private:
  static std::uint32_t as(int i) { return static_cast<std::uint32_t>(i); }
};

// One lane's part of a product: rows lane / 4 and + 8 of its warp's 16, 2 columns of each 8.
struct late_product {
  float* c;
  int blocks;                                   // of 8 columns
  bool adds, left_in_registers, columns, done;  // columns: how the right factor's rows are
  int lot;
  int row;                    // in the group's 64, of the first of the two
  std::uint16_t left[2][16];  // where in registers
  std::uint64_t a, b;
  float (*value)(std::uint16_t bits);

  void run(const shared_window& memory, int lane, float* sums) const {
    float x[2][16];
    for (int h = 0; h < 2; ++h) {
      for (int k = 0; k < 16; ++k) {
        x[h][k] =
            value(left_in_registers ? left[h][k]
                                    : memory.element(operand_matrix(a).in_row(row + 8 * h, k)));
      }
    }
    const operand_matrix right(b);
    for (int n = 0; n < blocks; ++n) {
      for (int i = 0; i < 2; ++i) {
        const int column = n * 8 + lane % 4 * 2 + i;
        float& low = sums[4 * n + i];
        float& high = sums[4 * n + 2 + i];
        if (!adds) low = high = 0;
        for (int k = 0; k < 16; ++k) {
          const float y =
              value(memory.element(columns ? right.in_column(column, k) : right.in_row(column, k)));
          low += x[0][k] * y;
          high += x[1][k] * y;
        }
      }
    }
  }
};

// A lane's products under way.
class product_queue {
 public:
  void clear() { *this = {}; }
  void fence() { fenced_ = true; }
  void add(const late_product& p) {
    ds::require(fenced_, ds::error_code::device, "simulation: products without a fence before");
    auto& sums = sums_[p.c];
    if (sums.empty()) {
      sums.assign(p.c, p.c + 4 * p.blocks);
      std::memset(p.c, 0xff, sizeof(float) * sums.size());
    }
    products_.push_back(p);
    products_.back().lot = lots_;
    open_ = true;
  }
  // All, or those of the lots but the last `left`.
  void run(const shared_window& memory, int lane, int left = -1) {
    for (late_product& p : products_) {
      if (p.done || (left >= 0 && p.lot >= lots_ - left)) continue;
      p.run(memory, lane, sums_[p.c].data());
      p.done = true;
    }
    std::erase_if(products_, [](const late_product& p) { return p.done; });
  }
  void commit() {
    open_ = fenced_ = false;
    ++lots_;
  }
  void finish() {
    ds::require(!open_, ds::error_code::device, "simulation: products that nobody committed");
    for (const auto& [c, sums] : sums_) std::copy(sums.begin(), sums.end(), c);
    sums_.clear();
    products_.clear();
  }
  bool empty() const { return sums_.empty(); }

 private:
  std::vector<late_product> products_;
  std::map<float*, std::vector<float>> sums_;
  bool fenced_ = false, open_ = false;
  int lots_ = 0;  // committed
};

// What the threads of a block share of all this.
struct group_state {
  barrier_book barriers;
  std::vector<late_tile> tiles;
  unsigned begun = 0;  // tiles so far
};
struct lane_group_state {
  product_queue products;
  std::vector<std::pair<void*, std::uint32_t>> put;  // and not published
  const void* barrier = nullptr;                     // that it waits for
  int parity = 0, registers = 0;
};

// Operations of a block (warp_group.hpp, bulk_copy.hpp) over Self, which knows groups(), own(),
// window(), wait_for_group().
template <class Self>
class group_operations {
 public:
  std::uint32_t shared_address(const void* p) const { return self().window().address(p); }

  void barrier_make(const void* at, int arrivals) const {
    self().groups().barriers.make(at, arrivals);
  }
  void barrier_arrive(const void* at, int bytes) const {
    auto& state = self().groups().barriers.at(at);
    state.bytes += bytes;
    state.change(1, 0);
  }
  void barrier_wait(const void* at, int parity) const {
    if (!self().groups().barriers.at(at).over(parity)) self().wait_for_barrier(at, parity);
  }
  // Every third tile lands at once; the others when nobody can go on without them.
  void copy_tile(void* to, const ds::bulk::tile_map& map, const ds::bulk::tile_place& place,
                 const void* barrier) const {
    late_tile tile{shared_address(to), {}, place, barrier};
    std::memcpy(&tile.from, map.bytes, sizeof tile.from);
    ds::require(tile.to % 1024 == 0, ds::error_code::device, "simulation: a tile at address ",
                tile.to, ", not a multiple of 1024");
    tile.poison(self().window());
    auto& all = self().groups();
    if (all.begun++ % 3 == 0) return tile.land(self().window(), all.barriers);
    all.tiles.push_back(tile);
  }

  template <class T, ds::warp_group::rows_hold Rows>
  void group_multiply(mma::c_part<T>* c, int blocks, ds::warp_group::matrix a,
                      ds::warp_group::matrix_of<Rows> b, bool adds) const {
    late_product p = product(c, blocks, b);
    p.adds = adds;
    p.a = a.word;
    add(p);
  }
  template <class T>
  void group_multiply(mma::c_part<T>* c, int blocks, const mma::a_part& a,
                      ds::warp_group::column_matrix b) const {
    mma::a_part all[ds::warp_size];
    self().gather(a, all);
    late_product p = product(c, blocks, b);
    p.left_in_registers = true;
    for (int h = 0; h < 2; ++h) {
      for (int k = 0; k < 16; ++k) {
        const std::uint32_t word = all[self().lane() / 4 * 4 + k % 8 / 2].word[h + k / 8 * 2];
        p.left[h][k] = static_cast<std::uint16_t>(word >> 16 * (k % 2));
      }
    }
    add(p);
  }
  void group_fence() const {
    self().wait_for_group();
    own().products.fence();
  }
  void group_commit() const { own().products.commit(); }
  // All lots but the last `left` are over. Those that were not begun at once take many turns.
  void group_wait(int left) const {
    for (int turn = 0; turn < (late() ? 32 : 1); ++turn) self().wait_for_group();
    own().products.run(self().window(), self().lane(), left);
    if (left == 0) own().products.finish();
  }
  void group_put(void* to, std::uint32_t word) const {
    std::memset(to, 0xff, sizeof word);
    own().put.emplace_back(to, word);
  }
  void group_publish() const {
    for (const auto& [to, word] : own().put) std::memcpy(to, &word, sizeof word);
    own().put.clear();
  }
  void group_sync() const { self().wait_for_group(); }
  void group_registers(int change) const {
    int& now = own().registers;
    const int count = change < 0 ? -change : change;
    ds::require(count % 8 == 0 && count >= 24 && count <= 256 && (count > now) == (change > 0),
                ds::error_code::device, "simulation: ", change, " registers after ", now);
    now = count;
  }

 private:
  const Self& self() const { return static_cast<const Self&>(*this); }
  lane_group_state& own() const { return self().own_group(); }
  bool late() const { return self().warp() / 4 % 2 != 0; }

  template <class T, ds::warp_group::rows_hold Rows>
  late_product product(mma::c_part<T>* c, int blocks, ds::warp_group::matrix_of<Rows> b) const {
    static_assert(sizeof(mma::c_part<T>) == 4 * sizeof(float));
    late_product p{};
    p.c = c->x;
    p.blocks = blocks;
    p.adds = true;
    p.columns = Rows == ds::warp_group::rows_hold::columns;
    p.row = self().warp() % 4 * 16 + self().lane() / 4;
    p.b = b.word;
    p.value = [](std::uint16_t bits) { return static_cast<float>(T::from_bits(bits)); };
    return p;
  }
  // Every second group runs its products at once.
  void add(const late_product& p) const {
    own().products.add(p);
    if (!late()) own().products.run(self().window(), self().lane());
  }
};

}  // namespace simulation
