#pragma once

#include "plait/core/random.hpp"
#include "plait/exec/state.hpp"

#include <algorithm>
#include <bit>
#include <cmath>

namespace plait {
namespace detail {

inline void set(Array& a, std::int64_t i, double x) {
    auto n = static_cast<std::size_t>(i);
    switch (a.meta().dtype) {
        case DType::f32:
            a.values<float>()[n] = static_cast<float>(x);
            break;
        case DType::bf16:
            a.values<Bf16>()[n] = Bf16(static_cast<float>(x));
            break;
        case DType::f64:
            a.values<double>()[n] = x;
            break;
        case DType::i32:
            a.values<std::int32_t>()[n] = static_cast<std::int32_t>(x);
            break;
        case DType::i64:
            a.values<std::int64_t>()[n] = static_cast<std::int64_t>(x);
            break;
        case DType::u8:
            a.values<std::uint8_t>()[n] = static_cast<std::uint8_t>(x);
            break;
    }
}

}  // namespace detail

PLAIT_INLINE void State::add(std::vector<std::shared_ptr<Variable>> const& variables) {
    for (auto const& v : variables) {
        if (offsets_.contains(v.get())) continue;
        check(!memory_, "state: '{}' comes too late: add every variable before the first step", v->path);
        for (auto const& other : variables_)
            check<UsageError>(v->path.empty() || other->path != v->path,
                              "state: two variables are called '{}': give each a name of its own", v->path);
        offsets_[v.get()] = bytes_;
        bytes_ += (v->meta.bytes() + 63) / 64 * 64;
        variables_.push_back(v);
    }
}

PLAIT_INLINE std::int64_t State::offset_of(Variable const& v) const {
    auto it = offsets_.find(&v);
    check<UsageError>(
        it != offsets_.end(),
        "the program uses '{}', which is not in its state: pass its module and optimizer to state(...)",
        v.path);
    return it->second;
}

PLAIT_INLINE Array initial_value(Variable const& v, std::uint64_t seed) {
    if (v.value) return v.value;
    Array a(v.meta);
    Random random{seed, hash_name(v.path), 0};
    for (std::int64_t i = 0; i < v.meta.elements(); ++i) {
        auto n = static_cast<std::uint64_t>(i);
        double x = v.init.a;
        if (v.init.kind == Init::Kind::normal) x = v.init.a + v.init.b * random.normal(n);
        if (v.init.kind == Init::Kind::uniform) x = v.init.a + (v.init.b - v.init.a) * random.uniform(n);
        detail::set(a, i, x);
    }
    return a;
}

PLAIT_INLINE void State::set_seed(std::uint64_t seed) {
    check<UsageError>(!memory_ || seed == seed_,
                      "state: the seed {} comes too late, the variables began from {}", seed, seed_);
    seed_ = seed;
}

PLAIT_INLINE void State::allocate() {
    if (memory_) return;
    memory_ = backend_->allocate(bytes_);
    for (auto const& v : variables_)
        // Fresh memory is zero already.
        if (v->value || v->init.kind != Init::Kind::constant || v->init.a != 0)
            write(*v, initial_value(*v, seed_));
}

PLAIT_INLINE Array State::read(Variable const& v) const {
    check(memory_ != nullptr, "state: '{}' has no value before the first step", v.path);
    Array a(v.meta);
    backend_->read(a.bytes(), memory_.get() + offset_of(v));
    return a;
}

PLAIT_INLINE void State::write(Variable const& v, Array const& value) {
    check(memory_ != nullptr, "state: '{}' has no memory before the first step", v.path);
    check<ShapeError>(value.meta() == v.meta, "state: '{}' is {}, not {}", v.path, to_string(v.meta),
                      to_string(value.meta()));
    backend_->write(memory_.get() + offset_of(v), value.bytes());
}

PLAIT_INLINE std::uint64_t State::parameter_hash() const {
    check(memory_ != nullptr, "state: there are no weights to hash before the first step");
    std::uint64_t sum = 0;
    // In pieces, so that a hash after every step takes no memory to speak of.
    constexpr std::int64_t piece = 4096;
    for (auto const& v : variables_) {
        if (v->kind != VariableKind::parameter) continue;
        std::uint64_t path = hash_name(v->path);
        for (std::int64_t begin = 0, n = v->meta.elements(); begin < n; begin += piece) {
            Array a({v->meta.dtype, {std::min(piece, n - begin)}});
            backend_->read(a.bytes(), memory_.get() + offset_of(*v) + bytes_of(v->meta.dtype, begin));
            for (std::int64_t i = 0; i < a.meta().elements(); ++i) {
                auto x = static_cast<float>(a.at(i));
                check(std::isfinite(x), "parameter '{}' is not finite at element {}", v->path, begin + i);
                sum +=
                    mix(path ^ mix(static_cast<std::uint64_t>(begin + i)) ^ std::bit_cast<std::uint32_t>(x));
            }
        }
    }
    return sum;
}

}  // namespace plait
