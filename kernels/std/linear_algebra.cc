// Dense linear algebra; all matrices are row-major without padding.
#include "kernels/std/reduce.h"

#include <cmath>

namespace kaas {
namespace {

// A block computes tiles of kTile x kTile of C, and walks through k in steps of kTileK. Each
// thread holds micro-tiles of kMicro x kMicro, so that a value read from shared memory is used
// kMicro times. Blocks of fewer threads than micro-tiles make several passes, so any shape works;
// 256 threads are best.
constexpr uint32_t kTile = 64;
constexpr uint32_t kTileK = 16;
constexpr uint32_t kMicro = 4;
constexpr uint32_t kMicroPerSide = kTile / kMicro;
constexpr uint32_t kMicroTiles = kMicroPerSide * kMicroPerSide;

struct MatrixShape {
  uint32_t m, n, k;  // C is m x n, A is m x k, B is k x n.
};

struct MicroTile {
  float values[kMicro][kMicro];
};

// The pieces of A and B that a block works on. `a` is transposed, so that both are read along rows.
struct SharedTiles {
  float a[kTileK][kTile];
  float b[kTileK][kTile];
};

// Loads the pieces of A and B that begin at (row, k) and (k, column); zero outside the matrices.
KAAS_FUNCTION void load_tiles(Block& block, const MatrixShape& shape, const float* a,
                              const float* b, uint32_t row, uint32_t column, uint32_t k,
                              SharedTiles* tiles) {
  block.for_each_in_block(kTile * kTileK, [&](uint32_t, uint64_t i) {
    const auto at = static_cast<uint32_t>(i);
    const uint64_t a_row = uint64_t{row} + at / kTileK;
    const uint64_t a_column = uint64_t{k} + at % kTileK;
    const bool inside = a_row < shape.m && a_column < shape.k;
    tiles->a[at % kTileK][at / kTileK] = inside ? a[a_row * shape.k + a_column] : 0.0F;
  });
  block.for_each_in_block(kTile * kTileK, [&](uint32_t, uint64_t i) {
    const auto at = static_cast<uint32_t>(i);
    const uint64_t b_row = uint64_t{k} + at / kTile;
    const uint64_t b_column = uint64_t{column} + at % kTile;
    const bool inside = b_row < shape.k && b_column < shape.n;
    tiles->b[at / kTile][at % kTile] = inside ? b[b_row * shape.n + b_column] : 0.0F;
  });
}

KAAS_FUNCTION void multiply_micro_tile(const SharedTiles& tiles, uint32_t top, uint32_t left,
                                       MicroTile* sum) {
  MicroTile local = *sum;
  for (uint32_t k = 0; k < kTileK; ++k) {
    for (uint32_t r = 0; r < kMicro; ++r) {
      for (uint32_t c = 0; c < kMicro; ++c) {
        local.values[r][c] += tiles.a[k][top + r] * tiles.b[k][left + c];
      }
    }
  }
  *sum = local;
}

// C = alpha * sum + beta * C for one micro-tile. With beta 0, C is not read, as in BLAS.
KAAS_FUNCTION void store_micro_tile(const MicroTile& sum, const MatrixShape& shape, uint64_t top,
                                    uint64_t left, float alpha, float beta, float* c) {
  for (uint32_t r = 0; r < kMicro && top + r < shape.m; ++r) {
    for (uint32_t column = 0; column < kMicro && left + column < shape.n; ++column) {
      float* at = c + (top + r) * shape.n + left + column;
      const float scaled = alpha * sum.values[r][column];
      *at = beta == 0.0F ? scaled : scaled + beta * *at;
    }
  }
}

// The micro-tiles [first_micro, first_micro + threads) of the tile that begins at (row, column).
KAAS_FUNCTION void multiply_tile(Block& block, const MatrixShape& shape, uint32_t row,
                                 uint32_t column, uint32_t first_micro, float alpha, float beta,
                                 const float* a, const float* b, float* c) {
  auto* tiles = block.shared<SharedTiles>();
  auto sums = block.per_thread<MicroTile>();
  for (uint64_t k = 0; k < shape.k; k += kTileK) {
    load_tiles(block, shape, a, b, row, column, static_cast<uint32_t>(k), tiles);
    block.barrier();
    block.for_each_thread([&](const Thread& thread) {
      const uint32_t micro = first_micro + thread.linear;
      if (micro >= kMicroTiles) return;
      multiply_micro_tile(*tiles, micro / kMicroPerSide * kMicro, micro % kMicroPerSide * kMicro,
                          &sums[thread]);
    });
    block.barrier();
  }
  block.for_each_thread([&](const Thread& thread) {
    const uint32_t micro = first_micro + thread.linear;
    if (micro >= kMicroTiles) return;
    store_micro_tile(sums[thread], shape, uint64_t{row} + micro / kMicroPerSide * kMicro,
                     uint64_t{column} + micro % kMicroPerSide * kMicro, alpha, beta, c);
  });
}

KAAS_FUNCTION void sgemm(Block& block, uint32_t m, uint32_t n, uint32_t k, float alpha, float beta,
                         const float* a, const float* b, float* c) {
  const MatrixShape shape{m, n, k};
  const uint64_t tile_columns = (uint64_t{n} + kTile - 1) / kTile;
  const uint64_t tiles = (uint64_t{m} + kTile - 1) / kTile * tile_columns;
  for (uint64_t tile = block.linear_index(); tile < tiles; tile += block.blocks()) {
    const auto row = static_cast<uint32_t>(tile / tile_columns * kTile);
    const auto column = static_cast<uint32_t>(tile % tile_columns * kTile);
    for (uint32_t micro = 0; micro < kMicroTiles; micro += block.threads()) {
      multiply_tile(block, shape, row, column, micro, alpha, beta, a, b, c);
    }
  }
}

KAAS_FUNCTION void matmul(Block& block, uint32_t m, uint32_t n, uint32_t k, const float* a,
                          const float* b, float* c) {
  sgemm(block, m, n, k, 1.0F, 0.0F, a, b, c);
}

// One Jacobi step for A x = b, A of n x n:
//   x_new[i] = (b[i] - sum over j != i of A[i][j] x[j]) / A[i][i]
// A block takes a row at a time, its threads the columns.
KAAS_FUNCTION void jacobi(Block& block, uint64_t n, const float* a, const float* b, const float* x,
                          float* x_new) {
  for (uint64_t row = block.linear_index(); row < n; row += block.blocks()) {
    const float* a_row = a + row * n;
    const float others =
        reduce_in_block(block, block.shared<float>(), n, 0.0F, Add(),
                        [&](uint64_t j) { return j == row ? 0.0F : a_row[j] * x[j]; });
    block.for_each_thread([&](const Thread& thread) {
      if (thread.linear == 0) x_new[row] = (b[row] - others) / a_row[row];
    });
  }
}

// Each row of `in` to exp(in - its maximum) / the sum of those. in and out may be the same buffer.
KAAS_FUNCTION void softmax(Block& block, uint64_t rows, uint64_t columns, const float* in,
                           float* out) {
  auto* values = block.shared<float>();
  for (uint64_t row = block.linear_index(); row < rows; row += block.blocks()) {
    const float* from = in + row * columns;
    float* to = out + row * columns;
    const float largest = reduce_in_block(block, values, columns, -INFINITY, Max(),
                                          [&](uint64_t i) { return from[i]; });
    // Each thread keeps to its own elements, so `to` may be read back without a barrier.
    block.for_each_in_block(columns,
                            [&](uint32_t, uint64_t i) { to[i] = expf(from[i] - largest); });
    const float total =
        reduce_in_block(block, values, columns, 0.0F, Add(), [&](uint64_t i) { return to[i]; });
    block.for_each_in_block(columns, [&](uint32_t, uint64_t i) { to[i] /= total; });
  }
}

}  // namespace

KAAS_KERNEL(sgemm, KernelOptions().shared_fixed(sizeof(SharedTiles)));
KAAS_KERNEL(matmul, KernelOptions().shared_fixed(sizeof(SharedTiles)));
KAAS_KERNEL(jacobi, KernelOptions().shared_per_thread(sizeof(float)));
KAAS_KERNEL(softmax, KernelOptions().shared_per_thread(sizeof(float)));

}  // namespace kaas
