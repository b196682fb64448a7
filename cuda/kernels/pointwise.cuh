#pragma once

// Functions of several tensors that are chosen at run time, and what is computed element by element in any
// dtype.

#include "cuda/device/any.cuh"
#include "cuda/device/math.cuh"

namespace plait::cuda {

enum class BinaryFunction : std::uint8_t {
    add,
    subtract,
    multiply,
    divide,
    maximum,
    minimum,
    equal,
    not_equal,
    less
};

/// y = function(a, b), or function(b, a) with `swapped`, for the first six functions; dense in y, which has
/// a's dtype, while a and b may repeat: their last strides are 0 or 1. y may be an operand that does not.
template <class A, class B>
struct BinaryMap {
    static constexpr char const* name = "binary";
    static constexpr int threads = 256, lanes = 16 / smaller<int>(sizeof(A), sizeof(B));
    using Shared = NoShared;

    BinaryFunction function;
    bool swapped;
    A const* a;
    B const* b;
    A* y;
    std::int64_t rows, columns;  // columns: of the last dim
    Strides<2> outer;            // the other dims, under a and b
    std::int64_t stride_a, stride_b;

    std::int64_t packs() const { return rows * pieces(columns, lanes); }
    std::int64_t blocks() const { return smaller<std::int64_t>(pieces(packs(), threads), 1 << 16); }

    PLAIT_DEVICE void operator()(Block const& block, Shared&) const {
        std::int64_t width = pieces(columns, lanes),
                     step = static_cast<std::int64_t>(block.blocks()) * threads, all = rows * width;
        for (auto i = static_cast<std::int64_t>(block.index()) * threads + block.thread(); i < all;
             i += step) {
            std::int64_t row = 0, column = i * lanes, at[2] = {0, 0};
            if (rows > 1) {
                row = quotient(i, width);
                column = (i - row * width) * lanes;
                outer.find(row, at);
            }
            std::int64_t left = columns - column;
            // Both are on their way before the first is looked at.
            auto raw_a = read(a + at[0], stride_a, column, left);
            auto raw_b = read(b + at[1], stride_b, column, left);
            float p[lanes], q[lanes];
            PLAIT_UNROLL
            for (int j = 0; j < lanes; ++j) {
                p[j] = raw_a[j];
                q[j] = raw_b[j];
            }
            if (swapped) apply(q, p, p);
            else apply(p, q, p);
            A* to = y + row * columns + column;
            Pack<A, lanes>(p).store(to, left, aligned(to));
        }
    }

  private:
    template <class T>
    PLAIT_DEVICE static Pack<T, lanes> read(T const* row, std::int64_t stride, std::int64_t column,
                                            std::int64_t left) {
        if (stride) return Pack<T, lanes>::load(row + column, left, aligned(row + column));
        float v[lanes];
        PLAIT_UNROLL
        for (int j = 0; j < lanes; ++j) v[j] = to_float(*row);
        return Pack<T, lanes>(v);
    }

    template <class F>
    PLAIT_DEVICE static void each(float const* p, float const* q, float* to, F f) {
        PLAIT_UNROLL
        for (int j = 0; j < lanes; ++j) to[j] = f(p[j], q[j]);
    }

    PLAIT_DEVICE void apply(float const* p, float const* q, float* to) const {
        switch (function) {
            case BinaryFunction::add:
                return each(p, q, to, [](float x, float z) { return x + z; });
            case BinaryFunction::subtract:
                return each(p, q, to, [](float x, float z) { return x - z; });
            case BinaryFunction::multiply:
                return each(p, q, to, [](float x, float z) { return x * z; });
            case BinaryFunction::divide:
                return each(p, q, to, [](float x, float z) { return x / z; });
            case BinaryFunction::maximum:
                return each(p, q, to, [](float x, float z) { return greater(x, z); });
            case BinaryFunction::minimum:
                return each(p, q, to, [](float x, float z) { return lesser(x, z); });
            default:
                return;
        }
    }
};

enum class PointFunction : std::uint8_t {
    add,
    subtract,
    multiply,
    divide,
    maximum,
    minimum,
    equal,
    not_equal,
    less,
    copy,
    select,
    is_finite,
    index
};

/// y = function(x[0], x[1], x[2]) of what has no kernel of its own: any dtypes, computed in C (float or
/// std::int64_t), inputs that repeat. `index` is origin + i / inner % size of element i. Elements of y are
/// written after those of the inputs that lie there are read.
template <class C>
struct Pointwise {
    static constexpr char const* name = "pointwise";
    static constexpr int threads = 256, each = 4;
    using Shared = NoShared;

    PointFunction function;
    int inputs;
    Source x[3];
    Target y;
    std::int64_t n;
    Strides<3> walk;
    std::int64_t inner, size, origin;

    std::int64_t blocks() const { return smaller<std::int64_t>(pieces(n, threads * each), 1 << 16); }

    PLAIT_DEVICE void operator()(Block const& block, Shared&) const {
        std::int64_t step = static_cast<std::int64_t>(block.blocks()) * threads;
        for (auto i = static_cast<std::int64_t>(block.index()) * threads + block.thread(); i < n; i += step) {
            if (function == PointFunction::index) {
                auto at = quotient(i, inner);
                y.store(i, origin + at - quotient(at, size) * size);
                continue;
            }
            std::int64_t at[3] = {0, 0, 0};
            walk.find(i, at);
            if (function == PointFunction::select) {
                bool first = x[0].load<std::int64_t>(at[0]) != 0;
                y.store(i, first ? x[1].load<C>(at[1]) : x[2].load<C>(at[2]));
                continue;
            }
            C a = x[0].load<C>(at[0]), b = inputs > 1 ? x[1].load<C>(at[1]) : C(0);
            y.store(i, apply(a, b));
        }
    }

  private:
    PLAIT_DEVICE C apply(C a, C b) const {
        switch (function) {
            case PointFunction::add:
                return sum(a, b, 1);
            case PointFunction::subtract:
                return sum(a, b, -1);
            case PointFunction::multiply:
                return product(a, b);
            case PointFunction::divide:
                if constexpr (std::is_floating_point_v<C>) return a / b;
                else return 0;
            case PointFunction::maximum:
                return greater(a, b);
            case PointFunction::minimum:
                return lesser(a, b);
            case PointFunction::equal:
                return C(a == b);
            case PointFunction::not_equal:
                return C(a != b);
            case PointFunction::less:
                return C(a < b);
            case PointFunction::is_finite:
                if constexpr (std::is_floating_point_v<C>) return C(magnitude_bits(a) < 0x7f800000u);
                else return 1;
            default:
                return a;
        }
    }
    // Integers wrap around.
    PLAIT_DEVICE static C sum(C a, C b, int sign) {
        if constexpr (std::is_floating_point_v<C>) {
            return sign > 0 ? a + b : a - b;
        } else {
            auto p = static_cast<std::uint64_t>(a), q = static_cast<std::uint64_t>(b);
            return static_cast<C>(sign > 0 ? p + q : p - q);
        }
    }
    PLAIT_DEVICE static C product(C a, C b) {
        if constexpr (std::is_floating_point_v<C>) return a * b;
        else return static_cast<C>(static_cast<std::uint64_t>(a) * static_cast<std::uint64_t>(b));
    }
};

/// Inputs of a fold by one launch; more are folded in turns.
inline constexpr int most_addends = 400;

/// y = the sum of `count` flat tensors of n elements in their order, or with `largest` their maximum, where
/// NaN wins; rounded once. y may be any of them.
template <class T>
struct FoldMap {
    static constexpr char const* name = "fold";
    static constexpr int threads = 256, lanes = Pack<T>::lanes, ahead = 4;
    using Shared = NoShared;

    T const* x[most_addends];
    int count;
    bool largest;
    T* y;
    std::int64_t n;

    std::int64_t blocks() const { return smaller<std::int64_t>(pieces(n, threads * lanes), 1 << 16); }

    PLAIT_DEVICE void operator()(Block const& block, Shared&) const {
        std::int64_t step = static_cast<std::int64_t>(block.blocks()) * threads * lanes;
        for (auto i = (static_cast<std::int64_t>(block.index()) * threads + block.thread()) * lanes; i < n;
             i += step) {
            float total[lanes];
            for (int k = 0; k < count; k += ahead) {
                Pack<T> raw[ahead];
                PLAIT_UNROLL
                for (int u = 0; u < ahead; ++u)
                    if (k + u < count) raw[u] = Pack<T>::load(x[k + u] + i, n - i, aligned(x[k + u]));
                PLAIT_UNROLL
                for (int u = 0; u < ahead; ++u) {
                    if (k + u >= count) break;
                    PLAIT_UNROLL
                    for (int j = 0; j < lanes; ++j) {
                        float a = raw[u][j];
                        total[j] = k + u == 0 ? a : largest ? greater(a, total[j]) : total[j] + a;
                    }
                }
            }
            Pack<T>(total).store(y + i, n - i, aligned(y));
        }
    }
};

}  // namespace plait::cuda
