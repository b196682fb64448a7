#pragma once

#include "plait/core/dtype.hpp"

#include <algorithm>
#include <array>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <vector>

namespace plait {

/// Sizes of a tensor's dims, outermost first; at most `max_rank` of them, held inline.
class Shape {
  public:
    static constexpr int max_rank = 8;
    static constexpr std::int64_t largest = std::int64_t{1} << 48;  // elements; far beyond any memory

    Shape() = default;
    Shape(std::initializer_list<std::int64_t> sizes) {
        for (auto s : sizes) push_back(s);
    }
    template <class It>
    Shape(It first, It last) {
        for (; first != last; ++first) push_back(*first);
    }

    int rank() const { return rank_; }
    bool empty() const { return rank_ == 0; }
    std::int64_t const* begin() const { return sizes_.data(); }
    std::int64_t const* end() const { return sizes_.data() + rank_; }
    std::int64_t* begin() { return sizes_.data(); }
    std::int64_t* end() { return sizes_.data() + rank_; }

    /// Size of dim `i`; negative counts from the end.
    std::int64_t operator[](int i) const { return sizes_[static_cast<std::size_t>(at(i))]; }
    std::int64_t& operator[](int i) { return sizes_[static_cast<std::size_t>(at(i))]; }
    std::int64_t back() const { return (*this)[-1]; }

    void push_back(std::int64_t size) {
        check<ShapeError>(rank_ < max_rank, "a shape has at most {} dims", max_rank);
        check<ShapeError>(size >= 0, "a dim has size {}: sizes are not negative", size);
        sizes_[static_cast<std::size_t>(rank_++)] = size;
    }

    /// Number of elements; 1 for a scalar.
    std::int64_t elements() const {
        std::int64_t n = 1;
        for (auto s : *this)
            if (__builtin_mul_overflow(n, s, &n) || n > largest) [[unlikely]]
                fail<ShapeError>("a tensor of more than {} elements: a size is too large", largest);
        return n;
    }
    /// The dims [first, last); negative counts from the end.
    Shape dims(int first, int last) const { return Shape(begin() + edge(first), begin() + edge(last)); }
    Shape leading(int n) const { return Shape(begin(), begin() + n); }

    bool operator==(Shape const& o) const { return std::equal(begin(), end(), o.begin(), o.end()); }

  private:
    int at(int i) const {
        int j = i < 0 ? i + rank_ : i;
        check<ShapeError>(j >= 0 && j < rank_, "a shape of {} dims has no dim {}", rank_, i);
        return j;
    }
    int edge(int i) const { return i < 0 ? i + rank_ : i; }

    std::array<std::int64_t, max_rank> sizes_{};
    int rank_ = 0;
};

/// "[8, 64, 256]"; "[]" is a scalar.
inline std::string to_string(Shape const& s) {
    std::string text = "[";
    for (int i = 0; i < s.rank(); ++i) text += (i ? ", " : "") + std::to_string(s[i]);
    return text + "]";
}

/// What is known of a tensor before it has a value: dtype and shape, stored dense and row-major.
struct Meta {
    DType dtype = DType::f32;
    Shape shape;

    std::int64_t elements() const { return shape.elements(); }
    std::int64_t bytes() const { return bytes_of(dtype, shape.elements()); }
    bool operator==(Meta const&) const = default;
};
using Metas = std::vector<Meta>;

/// "f32[8, 64]"
inline std::string to_string(Meta const& m) { return std::string(name_of(m.dtype)) + to_string(m.shape); }
/// "f32[8, 64], i32[8]"
inline std::string to_string(Metas const& metas) {
    std::string text;
    for (auto const& m : metas) text += (text.empty() ? "" : ", ") + to_string(m);
    return text;
}

/// Where a local block lies in its logical tensor; empty shapes mean that it is the whole tensor.
struct Placement {
    Shape origin;   // of the block's first element
    Shape logical;  // sizes of the whole tensor

    bool operator==(Placement const&) const = default;
};

/// Calls f(local, logical, count) for each run of elements that lie side by side both in a block of `shape`
/// and in its logical tensor: the numbers of its first element there, row-major, and its length.
template <class F>
void for_each_run(Shape const& shape, Placement const& at, F&& f) {
    auto total = shape.elements();
    if (at.logical.empty() || at.logical == shape) {
        if (total) f(std::int64_t{0}, std::int64_t{0}, total);
        return;
    }
    // Dims from `cut` on are whole, so a run spans them and the dim before.
    int cut = shape.rank();
    while (cut > 0 && shape[cut - 1] == at.logical[cut - 1]) --cut;
    std::int64_t run = shape.dims(cut - 1, shape.rank()).elements();
    std::int64_t inner = at.logical.dims(cut, shape.rank()).elements();
    for (std::int64_t local = 0; local < total; local += run) {
        std::int64_t rest = local / run, logical = at.origin[cut - 1] * inner, stride = inner;
        for (int d = cut - 2; d >= 0; --d) {
            stride *= at.logical[d + 1];
            logical += (rest % shape[d] + at.origin[d]) * stride;
            rest /= shape[d];
        }
        f(local, logical, run);
    }
}

}  // namespace plait
