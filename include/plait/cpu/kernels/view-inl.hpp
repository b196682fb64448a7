#pragma once

#include "plait/cpu/kernels/blocks-inl.hpp"
#include "plait/ops/view.hpp"

namespace plait::cpu::PLAIT_CPU_TARGET {

inline void reshape(KernelCall const& call) {
    copy_bytes(call, call.out.data()[0].data, call.in.data()[0].data, call.out.data()[0].meta.bytes());
}

/// Copies `rows` rows of `bytes` bytes from one stride to another; from nowhere means zeros.
inline void copy_rows(KernelCall const& call, std::byte* to, std::int64_t to_stride, std::byte const* from,
                      std::int64_t from_stride, std::int64_t rows, std::int64_t bytes) {
    constexpr std::int64_t longest = 4 * tile_elements;
    std::int64_t parts = larger(1, pieces(bytes, longest));
    run_items(call, rows * parts, smaller(bytes, longest) / 4,
              [&](std::int64_t begin, std::int64_t end, int) {
                  for (std::int64_t i = begin; i < end; ++i) {
                      std::int64_t row = i / parts, at = i % parts * longest;
                      auto n = static_cast<std::size_t>(smaller(longest, bytes - at));
                      if (from) std::memcpy(to + row * to_stride + at, from + row * from_stride + at, n);
                      else std::memset(to + row * to_stride + at, 0, n);
                  }
              });
}

/// Bytes of one step along `dim`.
inline std::int64_t step_bytes(Meta const& m, int dim) {
    return bytes_of(m.dtype, elements(m.shape, dim + 1, m.shape.rank()));
}

inline void slice(KernelCall const& call) {
    auto const& op = call.attributes<Slice>();
    Buffer const &x = call.in.data()[0], &y = call.out.data()[0];
    std::int64_t step = step_bytes(x.meta, op.dim), size = x.meta.shape.begin()[op.dim];
    copy_rows(call, y.data, op.length * step, x.data + op.start * step, size * step,
              elements(x.meta.shape, 0, op.dim), op.length * step);
}

inline void pad(KernelCall const& call) {
    auto const& op = call.attributes<Pad>();
    Buffer const &x = call.in.data()[0], &y = call.out.data()[0];
    std::int64_t step = step_bytes(x.meta, op.dim), size = x.meta.shape.begin()[op.dim];
    std::int64_t rows = elements(x.meta.shape, 0, op.dim), row = (op.before + size + op.after) * step;
    copy_rows(call, y.data + op.before * step, row, x.data, size * step, rows, size * step);
    copy_rows(call, y.data, row, nullptr, 0, rows, op.before * step);
    copy_rows(call, y.data + (op.before + size) * step, row, nullptr, 0, rows, op.after * step);
}

inline void concat(KernelCall const& call) {
    int dim = call.attributes<Concat>().dim;
    Buffer const& y = call.out.data()[0];
    std::int64_t step = step_bytes(y.meta, dim), row = y.meta.shape.begin()[dim] * step, at = 0;
    for (std::size_t i = 0; i < call.in.size(); ++i) {
        Buffer const& x = call.in.data()[i];
        std::int64_t own = x.meta.shape.begin()[dim] * step;
        copy_rows(call, y.data + at, row, x.data, own, elements(y.meta.shape, 0, dim), own);
        at += own;
    }
}

/// One plane of a transposition: to[j * to_stride + i] = from[i * from_stride + j]. Squares as wide as a
/// cache line are turned aside, so each line is read and written once, however badly the strides fall on the
/// cache.
template <class T>
void transpose_plane(T* to, std::int64_t to_stride, T const* from, std::int64_t from_stride,
                     std::int64_t rows, std::int64_t columns) {
    constexpr std::int64_t side = 64 / static_cast<std::int64_t>(sizeof(T));
    T square[side][side];
    for (std::int64_t i0 = 0; i0 < rows; i0 += side) {
        for (std::int64_t j0 = 0; j0 < columns; j0 += side) {
            std::int64_t height = smaller(side, rows - i0), width = smaller(side, columns - j0);
            T const* source = from + i0 * from_stride + j0;
            if (height == side && width == side) {
                bool more =
                    rows - i0 >= 2 * side;  // the next square's rows lie on other pages: fetch them ahead
                for (std::int64_t i = 0; i < side; ++i) {
                    if (more) __builtin_prefetch(source + (side + i) * from_stride);
                    for (std::int64_t j = 0; j < side; ++j) square[j][i] = source[i * from_stride + j];
                }
                for (std::int64_t j = 0; j < side; ++j)
                    std::memcpy(to + (j0 + j) * to_stride + i0, square[j], sizeof square[j]);
                continue;
            }
            for (std::int64_t i = 0; i < height; ++i)
                for (std::int64_t j = 0; j < width; ++j)
                    to[(j0 + j) * to_stride + i0 + i] = source[i * from_stride + j];
        }
    }
}

template <class T>
void transpose_as(KernelCall const& call) {
    auto const& order = call.attributes<Transpose>().order;
    Buffer const &x = call.in.data()[0], &y = call.out.data()[0];
    auto const* from = x.as<T const>();
    auto* to = y.as<T>();

    // Output dims with their strides on both sides; neighbours that are neighbours in the input too are one
    // dim.
    std::int64_t size[Shape::max_rank], in_stride[Shape::max_rank], out_stride[Shape::max_rank];
    int rank = 0;
    for (int d = 0; d < y.meta.shape.rank(); ++d) {
        std::int64_t n = y.meta.shape.begin()[d],
                     stride = elements(x.meta.shape, order.data()[d] + 1, x.meta.shape.rank());
        if (n == 1) continue;
        if (rank > 0 && in_stride[rank - 1] == stride * n) size[rank - 1] *= n, in_stride[rank - 1] = stride;
        else size[rank] = n, in_stride[rank] = stride, ++rank;
    }
    for (std::int64_t d = rank - 1, stride = 1; d >= 0; --d) out_stride[d] = stride, stride *= size[d];
    if (rank < 2) return copy_bytes(call, y.data, x.data, y.meta.bytes());

    // A plane spans the last output dim and the one that is last in the input; where that is the same dim,
    // rows are copied. The other dims and bands of the plane are shared out.
    int last = rank - 1, inner = last;
    for (int d = 0; d < rank; ++d)
        if (in_stride[d] == 1) inner = d;
    bool rows = inner == last;
    std::int64_t band = rows ? 1 : 64, bands = rows ? 1 : pieces(size[inner], band), planes = bands;
    for (int d = 0; d < last; ++d)
        if (rows || d != inner) planes *= size[d];
    run_items(call, planes, rows ? size[last] : band * size[last],
              [&](std::int64_t begin, std::int64_t end, int) {
                  for (std::int64_t i = begin; i < end; ++i) {
                      std::int64_t j = i % bands * band, a = rows ? 0 : j * out_stride[inner],
                                   b = rows ? 0 : j, rest = i / bands;
                      for (int d = last - 1; d >= 0; --d) {
                          if (!rows && d == inner) continue;
                          a += rest % size[d] * out_stride[d];
                          b += rest % size[d] * in_stride[d];
                          rest /= size[d];
                      }
                      if (rows)
                          std::memcpy(to + a, from + b, static_cast<std::size_t>(size[last]) * sizeof(T));
                      else
                          transpose_plane(to + a, out_stride[inner], from + b, in_stride[last], size[last],
                                          smaller(band, size[inner] - j));
                  }
              });
}

inline void transpose(KernelCall const& call) {
    switch (row_of(call.in.data()[0].meta.dtype).bits) {
        case 8:
            return transpose_as<std::uint8_t>(call);
        case 16:
            return transpose_as<std::uint16_t>(call);
        case 32:
            return transpose_as<std::uint32_t>(call);
        case 64:
            return transpose_as<std::uint64_t>(call);
        default:
            return unsupported(call, call.in.data()[0].meta.dtype);
    }
}

}  // namespace plait::cpu::PLAIT_CPU_TARGET
