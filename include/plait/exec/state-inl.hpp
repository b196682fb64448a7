#pragma once

#include "plait/core/random.hpp"
#include "plait/exec/state.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <thread>
#include <vector>

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
        if (entries_.contains(v.get())) continue;
        check(!memory_, "state: '{}' comes too late: add every variable before the first step", v->path);
        for (auto const& other : variables_)
            check<UsageError>(v->path.empty() || other->path != v->path,
                              "state: two variables are called '{}': give each a name of its own", v->path);
        entries_[v.get()] = {v->meta, {}};
        variables_.push_back(v);
        bytes_ = -1;
    }
}

PLAIT_INLINE State::Entry const& State::entry(Variable const& v) const {
    auto it = entries_.find(&v);
    check<UsageError>(
        it != entries_.end(),
        "the program uses '{}', which is not in its state: pass its module and optimizer to state(...)",
        v.path);
    return it->second;
}

PLAIT_INLINE void State::set_block(Variable const& v, Shape const& shape, Placement place) {
    auto const& now = entry(v);
    if (shape == v.meta.shape) place = {};
    if (now.block.shape == shape && now.place == place) return;
    check<UsageError>(!memory_ && !now.settled,
                      "state: '{}' is kept as {}: another program of this state lays it out as {}", v.path,
                      to_string(now.block.shape), to_string(shape));
    entries_[&v] = {{v.meta.dtype, shape}, std::move(place)};
    bytes_ = -1;
}

PLAIT_INLINE void State::settle() {
    for (auto& [v, entry] : entries_) entry.settled = true;
}

PLAIT_INLINE void State::lay_out() const {
    if (bytes_ >= 0) return;
    bytes_ = 0;
    for (auto const& v : variables_) {
        auto& e = entries_.at(v.get());
        e.offset = bytes_;
        bytes_ += placed_bytes(e.block);
    }
}

PLAIT_INLINE std::int64_t State::bytes() const {
    lay_out();
    return bytes_;
}

PLAIT_INLINE std::int64_t State::offset_of(Variable const& v) const {
    lay_out();
    return entry(v).offset;
}

namespace detail {

/// f(i) for i < count, in threads where that is worth their start.
template <class F>
void in_threads(std::int64_t count, F const& f) {
    auto some = [&f](std::int64_t first, std::int64_t last) {
        for (auto i = first; i < last; ++i) f(i);
    };
    auto const most = std::max<std::int64_t>(1, std::thread::hardware_concurrency());
    auto const n = std::clamp<std::int64_t>(count >> 18, 1, most);
    std::vector<std::jthread> others;
    for (std::int64_t t = 1; t < n; ++t) others.emplace_back(some, count * t / n, count * (t + 1) / n);
    some(0, count / n);
}

}  // namespace detail

PLAIT_INLINE Array initial_value(Variable const& v, std::uint64_t seed, Shape const& block,
                                 Placement const& place) {
    if (v.value && block == v.meta.shape) return v.value;
    Array a({v.meta.dtype, block});
    Random random{seed, hash_name(v.path), 0};
    auto const counted = v.counted();
    for_each_run(block, place, [&](std::int64_t local, std::int64_t logical, std::int64_t count) {
        detail::in_threads(count, [&](std::int64_t i) {
            auto n = static_cast<std::uint64_t>(logical + i);
            double x = v.value ? v.value.at(logical + i) : v.init.a;
            if (!v.value && v.init.kind == Init::Kind::normal) x = v.init.a + v.init.b * random.normal(n);
            if (!v.value && v.init.kind == Init::Kind::uniform)
                x = v.init.a + (v.init.b - v.init.a) * random.uniform(n);
            detail::set(a, local + i, logical + i < counted ? x : 0);
        });
    });
    return a;
}

PLAIT_INLINE void State::set_seed(std::uint64_t seed) {
    check<UsageError>(!memory_ || seed == seed_,
                      "state: the seed {} comes too late, the variables began from {}", seed, seed_);
    seed_ = seed;
}

PLAIT_INLINE void State::allocate() {
    if (memory_) return;
    memory_ = backend_->allocate(bytes());
    for (auto const& v : variables_) {
        // Fresh memory is zero already.
        if (!v->value && v->init.kind == Init::Kind::constant && v->init.a == 0) continue;
        auto const& e = entry(*v);
        write(*v, initial_value(*v, seed_, e.block.shape, e.place));
    }
}

PLAIT_INLINE Array State::read(Variable const& v) const {
    check(memory_ != nullptr, "state: '{}' has no value before the first step", v.path);
    Array a(entry(v).block);
    backend_->read(a.bytes(), memory_.get() + offset_of(v));
    return a;
}

PLAIT_INLINE void State::write(Variable const& v, Array const& block) {
    check(memory_ != nullptr, "state: '{}' has no memory before the first step", v.path);
    check<ShapeError>(block.meta() == entry(v).block, "state: '{}' is {}, not {}", v.path,
                      to_string(entry(v).block), to_string(block.meta()));
    backend_->write(memory_.get() + offset_of(v), block.bytes());
}

PLAIT_INLINE std::uint64_t State::parameter_hash(Variable const& v) const {
    check(memory_ != nullptr, "state: there are no weights to hash before the first step");
    std::uint64_t sum = 0, path = hash_name(v.path);
    auto const counted = v.counted();
    auto const& e = entry(v);
    // In pieces, so that a hash after every step takes no memory to speak of; each is a wait for a device.
    std::int64_t const piece = backend_->shares_memory() ? 4096 : 1 << 20;
    for_each_run(e.block.shape, e.place, [&](std::int64_t local, std::int64_t logical, std::int64_t count) {
        for (std::int64_t begin = 0; begin < count; begin += piece) {
            Array a({e.block.dtype, {std::min(piece, count - begin)}});
            backend_->read(a.bytes(), memory_.get() + offset_of(v) + bytes_of(e.block.dtype, local + begin));
            for (std::int64_t i = 0; i < a.meta().elements(); ++i) {
                auto at = logical + begin + i;
                auto x = static_cast<float>(a.at(i));
                check(std::isfinite(x), "parameter '{}' is not finite at element {}", v.path, at);
                if (at < counted)
                    sum += mix(path ^ mix(static_cast<std::uint64_t>(at)) ^ std::bit_cast<std::uint32_t>(x));
            }
        }
    });
    return sum;
}

PLAIT_INLINE std::uint64_t State::parameter_hash() const {
    std::uint64_t sum = 0;
    for (auto const& v : variables_)
        if (v->kind == VariableKind::parameter) sum += parameter_hash(*v);
    return sum;
}

}  // namespace plait
