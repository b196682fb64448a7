#pragma once

#include "plait/core/random.hpp"
#include "plait/train/shared_state.hpp"

#include <algorithm>
#include <bit>
#include <cstring>
#include <map>

namespace plait {

PLAIT_INLINE BlockHolders::BlockHolders(std::vector<std::int64_t> places, std::size_t variables)
    : places_(std::move(places)),
      variables_(variables),
      ranks_(variables == 0 ? 1 : static_cast<int>(places_.size() / variables)) {}

PLAIT_INLINE std::int64_t BlockHolders::place_number(Shape const& block, Placement const& place) {
    auto const text = fmt::format("{} at {}", to_string(block), to_string(place.origin));
    return std::bit_cast<std::int64_t>(hash_name(text));
}

PLAIT_INLINE int BlockHolders::first_holder(std::size_t v, int r) const {
    auto place = [&](int rank) { return places_[static_cast<std::size_t>(rank) * variables_ + v]; };
    for (int first = 0; first < r; ++first)
        if (place(first) == place(r)) return first;
    return r;
}

PLAIT_INLINE std::vector<std::vector<std::size_t>> BlockHolders::written() const {
    std::vector<std::vector<std::size_t>> written(static_cast<std::size_t>(ranks_));
    int turn = 0;
    for (std::size_t v = 0; v < variables_; ++v) {
        std::map<std::int64_t, std::size_t> known;
        std::vector<std::vector<int>> holders;  // of each block, in the order of the first of them
        for (int r = 0; r < ranks_; ++r) {
            auto const place = places_[static_cast<std::size_t>(r) * variables_ + v];
            auto const [it, fresh] = known.try_emplace(place, holders.size());
            if (fresh) holders.emplace_back();
            holders[it->second].push_back(r);
        }
        for (auto const& all : holders)
            written[static_cast<std::size_t>(all[static_cast<std::size_t>(turn++) % all.size()])].push_back(
                v);
    }
    return written;
}

PLAIT_INLINE SharedState::SharedState(Communicator& world, std::shared_ptr<State> state)
    : world_(world), state_(std::move(state)) {
    auto const& variables = state_->variables();
    std::string names;
    std::vector<std::int64_t> mine;
    for (auto const& v : variables) {
        names += fmt::format("{} {}\n", v->path, to_string(v->meta));
        mine.push_back(BlockHolders::place_number(state_->block_of(*v).shape, state_->place_of(*v)));
    }
    agree(world_,
          {{"the variables", fmt::format("{} variables, {:016x}", variables.size(), hash_name(names))}});
    holders_.emplace(gather_numbers(world_, std::span(std::as_const(mine))), variables.size());
    auto const written = holders_->written();
    for (auto v : written[static_cast<std::size_t>(world_.rank())])
        if (state_->block_of(*variables[v]).elements() > 0) writes_.insert(variables[v].get());
}

PLAIT_INLINE std::int64_t SharedState::snapshot_bytes() const {
    std::int64_t bytes = 0;
    for (auto const* v : writes_) bytes += placed_bytes(state_->block_of(*v));
    return bytes;
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
            auto const first = holders_->first_holder(v, r);
            if (first == r) sum += std::bit_cast<std::uint64_t>(of(r, v));
            check<AgreedError>(of(first, v) == of(r, v),
                               "parameter '{}': rank {} and rank {} should hold the same values, but differ",
                               variables[v]->path, first, r);
        }
    }
    return sum;
}

PLAIT_INLINE void copy_block(Array const& whole, Array const& block, Placement const& place,
                             bool into_whole) {
    auto const size = bytes_of(block.meta().dtype, 1);
    for_each_run(block.shape(), place, [&](std::int64_t local, std::int64_t logical, std::int64_t count) {
        auto *a = whole.bytes().data() + logical * size, *b = block.bytes().data() + local * size;
        std::memcpy(into_whole ? a : b, into_whole ? b : a, static_cast<std::size_t>(count * size));
    });
}

PLAIT_INLINE GatheredVariable gather_variable(Communicator& world, State const& state, Variable const& v,
                                              bool compare) {
    auto const& block = state.block_of(v);
    auto const& place = state.place_of(v);
    auto const dims = block.shape.rank();
    // A row of every rank: the elements of its block, then sizes and origin of each dim.
    std::vector<std::int64_t> mine{block.elements()};
    for (int d = 0; d < dims; ++d) {
        mine.push_back(block.shape[d]);
        mine.push_back(place.logical.empty() ? 0 : place.origin[d]);
    }
    auto const rows = gather_numbers(world, std::span(std::as_const(mine)));
    auto row = [&](int r) {
        return std::span(rows).subspan(static_cast<std::size_t>(r) * mine.size(), mine.size());
    };
    auto is_copy = [&](int r) {
        for (int first = 0; first < r; ++first)
            if (std::ranges::equal(row(first), row(r))) return true;
        return false;
    };
    auto gives = [&](int r) { return row(r)[0] > 0 && (compare || !is_copy(r)); };
    if (world.rank() != 0) {
        if (!gives(world.rank())) return {};
        auto const part = state.read(v);
        world.send(ConstView(part.bytes().data(), block.bytes(), u8), 0).wait();
        return {};
    }
    GatheredVariable all{.whole = Array(v.meta)};
    for (int r = 0; r < world.size(); ++r) {
        auto& origin = all.origins.emplace_back();
        if (row(r)[0] == 0) continue;
        Shape shape;
        origin.emplace();
        for (int d = 0; d < dims; ++d) {
            shape.push_back(row(r)[2 * static_cast<std::size_t>(d) + 1]);
            origin->push_back(row(r)[2 * static_cast<std::size_t>(d) + 2]);
        }
        all.block = shape;
        if (!gives(r)) continue;
        auto const part = r == 0 ? state.read(v) : Array(Meta{block.dtype, shape});
        if (r > 0) world.recv(View(part.bytes().data(), part.meta().bytes(), u8), r).wait();
        Placement const at{*origin, v.meta.shape};
        if (!is_copy(r)) {
            copy_block(all.whole, part, at, true);
        } else if (all.odd_rank < 0) {
            Array const known(part.meta());
            copy_block(all.whole, known, at, false);
            if (!std::ranges::equal(known.bytes(), part.bytes())) all.odd_rank = r;
        }
    }
    return all;
}

}  // namespace plait
