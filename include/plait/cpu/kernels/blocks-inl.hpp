#pragma once

#include "plait/cpu/backend.hpp"
#include "plait/cpu/simd_math.hpp"
#include "plait/cpu/thread_pool.hpp"

// How kernels walk over tensors: tiles of a fixed size for the pool, in them blocks that fit the first cache.
// A block of another dtype than the compute type goes through a small scratch buffer, so kernels know compute
// types only.
namespace plait::cpu::PLAIT_CPU_TARGET {

inline constexpr std::int64_t block_elements = 512;
inline constexpr std::int64_t tile_elements = 16384;

PLAIT_SIMD std::int64_t smaller(std::int64_t a, std::int64_t b) { return a < b ? a : b; }
PLAIT_SIMD std::int64_t larger(std::int64_t a, std::int64_t b) { return a > b ? a : b; }
PLAIT_SIMD std::int64_t pieces(std::int64_t n, std::int64_t piece) { return (n + piece - 1) / piece; }

/// Runs f(tile, worker) over [0, tiles) on the call's threads, if it has any.
template <class F>
void run_tiles(KernelCall const& call, std::int64_t tiles, F&& f) {
    if (call.pool) {
        call.pool->run(tiles, f);
    } else {
        for (std::int64_t i = 0; i < tiles; ++i) f(i, 0);
    }
}
/// Runs f(begin, end, worker) over runs of items that hold about a tile of elements, `cost` being those of
/// one item.
template <class F>
void run_items(KernelCall const& call, std::int64_t items, std::int64_t cost, F&& f) {
    std::int64_t run = larger(1, tile_elements / larger(cost, 1));
    run_tiles(call, pieces(items, run),
              [&](std::int64_t t, int worker) { f(t * run, smaller(items, (t + 1) * run), worker); });
}

/// A tensor as a kernel sees it.
struct Operand {
    std::byte* data = nullptr;
    DType dtype = DType::f32;
};
PLAIT_SIMD Operand operand(Buffer const& b) { return {b.data, b.meta.dtype}; }
PLAIT_SIMD Operand input(KernelCall const& call, int i) { return operand(call.in.data()[i]); }
PLAIT_SIMD Operand output(KernelCall const& call, int i) { return operand(call.out.data()[i]); }

template <class C, class T>
void convert_in(C* to, std::byte const* data, std::int64_t offset, std::int64_t n) {
    auto const* from = reinterpret_cast<T const*>(data) + offset;
    for_lanes<C>(n, [&](std::int64_t i, auto count) { store<C>(to + i, load<C>(from + i, count), count); });
}
template <class C, class T>
void convert_out(std::byte* data, std::int64_t offset, C const* from, std::int64_t n) {
    auto* to = reinterpret_cast<T*>(data) + offset;
    for_lanes<C>(n, [&](std::int64_t i, auto count) { store<C>(to + i, load<C>(from + i, count), count); });
}

/// Elements [offset, offset + n) of x as `C`: in place where they are, else converted into `scratch`.
template <class C>
C const* read(Operand x, std::int64_t offset, std::int64_t n, C* scratch) {
    if (x.dtype == dtype_of<C>) return reinterpret_cast<C const*>(x.data) + offset;
    switch (x.dtype) {
        case DType::f32:
            convert_in<C, float>(scratch, x.data, offset, n);
            break;
        case DType::bf16:
            convert_in<C, Bf16>(scratch, x.data, offset, n);
            break;
        case DType::f64:
            convert_in<C, double>(scratch, x.data, offset, n);
            break;
        case DType::i32:
            convert_in<C, std::int32_t>(scratch, x.data, offset, n);
            break;
        case DType::i64:
            convert_in<C, std::int64_t>(scratch, x.data, offset, n);
            break;
        case DType::u8:
            convert_in<C, std::uint8_t>(scratch, x.data, offset, n);
            break;
    }
    return scratch;
}
/// Where to put elements [offset, ...) of y: in place, or `scratch` until `write`.
template <class C>
C* target(Operand y, std::int64_t offset, C* scratch) {
    return y.dtype == dtype_of<C> ? reinterpret_cast<C*>(y.data) + offset : scratch;
}
template <class C>
void write(Operand y, std::int64_t offset, C const* from, std::int64_t n) {
    switch (y.dtype) {
        case dtype_of<C>:
            if (auto* to = reinterpret_cast<C*>(y.data) + offset; to != from)
                std::memcpy(to, from, static_cast<std::size_t>(n) * sizeof(C));
            break;
        default:
            switch (y.dtype) {
                case DType::f32:
                    convert_out<C, float>(y.data, offset, from, n);
                    break;
                case DType::bf16:
                    convert_out<C, Bf16>(y.data, offset, from, n);
                    break;
                case DType::f64:
                    convert_out<C, double>(y.data, offset, from, n);
                    break;
                case DType::i32:
                    convert_out<C, std::int32_t>(y.data, offset, from, n);
                    break;
                case DType::i64:
                    convert_out<C, std::int64_t>(y.data, offset, from, n);
                    break;
                case DType::u8:
                    convert_out<C, std::uint8_t>(y.data, offset, from, n);
                    break;
            }
    }
}

/// The one element of a scalar.
inline double scalar(Buffer const& b) {
    double value;
    return *read<double>(operand(b), 0, 1, &value);
}

/// Over [begin, end) of tensors of one shape: f(a, b) computes the output vectors b from the input vectors a.
template <class C, int In, int Out, class F>
PLAIT_SIMD void map_range(Operand const (&in)[In], Operand const (&out)[Out], std::int64_t begin,
                          std::int64_t end, F&& f) {
    alignas(64) C scratch[In + Out][block_elements];
    for (std::int64_t i = begin; i < end; i += block_elements) {
        std::int64_t n = smaller(block_elements, end - i);
        C const* x[In];
        C* y[Out];
        for (int k = 0; k < In; ++k) x[k] = read<C>(in[k], i, n, scratch[k]);
        for (int k = 0; k < Out; ++k) y[k] = target<C>(out[k], i, scratch[In + k]);
        for_lanes<C>(
            n, [&](std::int64_t j, auto count) __attribute__((always_inline)) {
                Vector<C> a[In], b[Out];
                for (int k = 0; k < In; ++k) a[k] = load<C>(x[k] + j, count);
                f(a, b);
                for (int k = 0; k < Out; ++k) store<C>(y[k] + j, b[k], count);
            });
        for (int k = 0; k < Out; ++k) write<C>(out[k], i, y[k], n);
    }
}
/// The same over all `n` elements, in tiles. An output may be the very buffer of an input.
template <class C, int In, int Out, class F>
void map(KernelCall const& call, Operand const (&in)[In], Operand const (&out)[Out], std::int64_t n, F f) {
    run_tiles(call, pieces(n, tile_elements), [&](std::int64_t t, int) {
        map_range<C>(in, out, t * tile_elements, smaller(n, (t + 1) * tile_elements), f);
    });
}

/// Calls f(C{}) with the type to compute in: double where f64 comes in, std::int64_t for integers only, else
/// float.
template <class F>
void with_compute_type(DType a, DType b, F&& f) {
    if (a == DType::f64 || b == DType::f64) f(double{});
    else if (is_floating(a) || is_floating(b)) f(float{});
    else f(std::int64_t{});
}
/// The same for ops of floating numbers; throws Error for others. `buffer` tells the dtype.
template <class F>
void with_floating_type(KernelCall const& call, Buffer const& buffer, F&& f) {
    if (buffer.meta.dtype == DType::f64) f(double{});
    else if (is_floating(buffer.meta.dtype)) f(float{});
    else unsupported(call, buffer.meta.dtype);
}
/// sizeof the type that `with_floating_type` gives.
PLAIT_SIMD std::int64_t compute_bytes(DType t) { return t == DType::f64 ? 8 : 4; }

/// Rounds up to whole cache lines.
PLAIT_SIMD std::int64_t padded(std::int64_t bytes) { return (bytes + 63) / 64 * 64; }

/// Copies bytes in tiles; nothing where source and target are one.
inline void copy_bytes(KernelCall const& call, std::byte* to, std::byte const* from, std::int64_t bytes) {
    constexpr std::int64_t tile = 4 * tile_elements;
    if (to == from) return;
    run_tiles(call, pieces(bytes, tile), [&](std::int64_t t, int) {
        std::memcpy(to + t * tile, from + t * tile,
                    static_cast<std::size_t>(smaller(tile, bytes - t * tile)));
    });
}

/// Elements along dims [first, last).
inline std::int64_t elements(Shape const& s, int first, int last) {
    std::int64_t n = 1;
    for (int i = first; i < last; ++i) n *= s.begin()[i];
    return n;
}

}  // namespace plait::cpu::PLAIT_CPU_TARGET
