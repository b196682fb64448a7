#pragma once

#include "plait/core/shape.hpp"

#include <cstring>
#include <memory>
#include <new>
#include <span>

namespace plait {

/// A tensor's value in host memory, dense and row-major; copies share the bytes.
class Array {
  public:
    Array() = default;
    /// Zeros.
    explicit Array(Meta meta)
        : meta_(meta), bytes_(static_cast<std::byte*>(::operator new(size(meta), alignment)), Free{}) {
        std::memset(bytes_.get(), 0, size(meta));
    }
    /// Copies `values`, which must be as many as `shape` holds.
    template <class T>
    Array(Shape shape, std::span<T const> values) : Array(Meta{dtype_of<T>, shape}) {
        check<ShapeError>(static_cast<std::int64_t>(values.size()) == shape.elements(),
                          "{} values do not fill the shape {}", values.size(), to_string(shape));
        std::memcpy(bytes_.get(), values.data(), values.size_bytes());
    }
    template <class T>
    Array(Shape shape, std::vector<T> const& values) : Array(shape, std::span<T const>(values)) {}

    explicit operator bool() const { return bytes_ != nullptr; }
    Meta const& meta() const { return meta_; }
    Shape const& shape() const { return meta_.shape; }
    std::span<std::byte> bytes() const { return {bytes_.get(), static_cast<std::size_t>(meta_.bytes())}; }

    /// The elements, which must be of type `T`.
    template <class T>
    std::span<T> values() const {
        check<ShapeError>(dtype_of<T> == meta_.dtype, "the array holds {}, not {}", name_of(meta_.dtype),
                          name_of(dtype_of<T>));
        return {reinterpret_cast<T*>(bytes_.get()), static_cast<std::size_t>(meta_.elements())};
    }
    /// Element `i` widened to double, whatever the dtype.
    double at(std::int64_t i) const {
        auto const* p = bytes_.get();
        auto n = static_cast<std::size_t>(i);
        switch (meta_.dtype) {
            case DType::f32:
                return reinterpret_cast<float const*>(p)[n];
            case DType::bf16:
                return static_cast<float>(reinterpret_cast<Bf16 const*>(p)[n]);
            case DType::f64:
                return reinterpret_cast<double const*>(p)[n];
            case DType::i32:
                return reinterpret_cast<std::int32_t const*>(p)[n];
            case DType::i64:
                return static_cast<double>(reinterpret_cast<std::int64_t const*>(p)[n]);
            case DType::u8:
                return reinterpret_cast<std::uint8_t const*>(p)[n];
        }
        return 0;
    }
    /// The one element of a scalar.
    double item() const {
        check<ShapeError>(meta_.elements() == 1, "item() wants one element, the array is {}",
                          to_string(meta_));
        return at(0);
    }

  private:
    static constexpr std::align_val_t alignment{64};
    struct Free {
        void operator()(std::byte* p) const { ::operator delete(p, alignment); }
    };
    static std::size_t size(Meta const& m) {
        return static_cast<std::size_t>(std::max<std::int64_t>(m.bytes(), 1));
    }

    Meta meta_;
    std::shared_ptr<std::byte[]> bytes_;
};

}  // namespace plait
