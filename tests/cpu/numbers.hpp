#pragma once

#include "plait/core/array.hpp"
#include "plait/core/random.hpp"

namespace tests {

/// An array of random numbers in [-1, 1) that reads as doubles.
class Numbers {
  public:
    Numbers(plait::DType type, plait::Shape shape, std::uint64_t seed, double scale = 1)
        : array_({type, shape}) {
        for (std::int64_t i = 0; i < shape.elements(); ++i)
            set(i, scale * (2 * plait::Random{seed}.uniform(static_cast<std::uint64_t>(i)) - 1));
    }
    explicit Numbers(plait::Meta meta) : array_(meta) {}

    double operator()(std::int64_t i) const { return array_.at(i); }
    void set(std::int64_t i, double value) {
        using namespace plait;
        auto* p = array_.bytes().data();
        switch (array_.meta().dtype) {
            case DType::f32:
                reinterpret_cast<float*>(p)[i] = static_cast<float>(value);
                break;
            case DType::bf16:
                reinterpret_cast<Bf16*>(p)[i] = Bf16(static_cast<float>(value));
                break;
            case DType::f64:
                reinterpret_cast<double*>(p)[i] = value;
                break;
            case DType::i32:
                reinterpret_cast<std::int32_t*>(p)[i] = static_cast<std::int32_t>(value);
                break;
            case DType::i64:
                reinterpret_cast<std::int64_t*>(p)[i] = static_cast<std::int64_t>(value);
                break;
            case DType::u8:
                reinterpret_cast<std::uint8_t*>(p)[i] = static_cast<std::uint8_t>(value);
                break;
        }
    }
    std::byte* data() const { return array_.bytes().data(); }
    plait::Meta const& meta() const { return array_.meta(); }
    std::int64_t size() const { return array_.meta().elements(); }
    Numbers copy() const {
        Numbers other(meta());
        std::memcpy(other.data(), data(), array_.bytes().size());
        return other;
    }

  private:
    plait::Array array_;
};

}  // namespace tests
