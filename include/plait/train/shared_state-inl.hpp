#pragma once

#include "plait/core/random.hpp"
#include "plait/train/shared_state.hpp"

#include <bit>

namespace plait {

PLAIT_INLINE SharedState::SharedState(Communicator& world, std::shared_ptr<State> state)
    : world_(world), state_(std::move(state)) {
    auto const& variables = state_->variables();
    std::string names;
    std::vector<std::int64_t> mine;
    for (auto const& v : variables) {
        names += fmt::format("{} {}\n", v->path, to_string(v->meta));
        auto const& place = state_->place_of(*v);
        auto text = fmt::format("{} at {}", to_string(state_->block_of(*v).shape), to_string(place.origin));
        mine.push_back(std::bit_cast<std::int64_t>(hash_name(text)));
    }
    agree(world_,
          {{"the variables", fmt::format("{} variables, {:016x}", variables.size(), hash_name(names))}});
    places_ = gather_numbers(world_, std::span(std::as_const(mine)));
    int turn = 0;
    for (std::size_t v = 0; v < variables.size(); ++v) {
        for (int first = 0; first < world_.size(); ++first) {
            if (first_holder(v, first) != first) continue;
            std::vector<int> holders;
            for (int r = first; r < world_.size(); ++r)
                if (first_holder(v, r) == first) holders.push_back(r);
            auto const writer = holders[static_cast<std::size_t>(turn++) % holders.size()];
            if (writer == world_.rank()) writes_.insert(variables[v].get());
        }
    }
}

PLAIT_INLINE int SharedState::first_holder(std::size_t v, int r) const {
    auto const n = state_->variables().size();
    auto place = [&](int rank) { return places_[static_cast<std::size_t>(rank) * n + v]; };
    for (int first = 0; first < r; ++first)
        if (place(first) == place(r)) return first;
    return r;
}

PLAIT_INLINE std::uint64_t SharedState::parameter_hash() const {
    auto const& variables = state_->variables();
    auto const width = variables.size() + 1;
    // One number for each variable, and last whether all were finite.
    std::vector<std::int64_t> mine(width);
    std::string damage;
    try {
        for (std::size_t v = 0; v < variables.size(); ++v)
            if (variables[v]->kind == VariableKind::parameter)
                mine[v] = std::bit_cast<std::int64_t>(state_->parameter_hash(*variables[v]));
    } catch (Error const& e) {
        damage = e.what();
    }
    mine.back() = damage.empty();
    auto const all = gather_numbers(world_, std::span(std::as_const(mine)));
    auto of = [&](int r, std::size_t v) { return all[static_cast<std::size_t>(r) * width + v]; };
    for (int r = 0; r < world_.size(); ++r) {
        if (of(r, width - 1)) continue;
        damage = broadcast_text(world_, damage, r);
        throw AgreedError(world_.size() == 1 ? damage : fmt::format("rank {}: {}", r, damage));
    }
    std::uint64_t sum = 0;
    for (std::size_t v = 0; v < variables.size(); ++v) {
        for (int r = 0; r < world_.size(); ++r) {
            auto const first = first_holder(v, r);
            if (first == r) sum += std::bit_cast<std::uint64_t>(of(r, v));
            check<AgreedError>(of(first, v) == of(r, v),
                               "parameter '{}': rank {} and rank {} should hold the same values, but differ",
                               variables[v]->path, first, r);
        }
    }
    return sum;
}

}  // namespace plait
