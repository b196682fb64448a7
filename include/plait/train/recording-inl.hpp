#pragma once

#include "plait/core/random.hpp"
#include "plait/parallel/pipeline.hpp"
#include "plait/train/agreement.hpp"
#include "plait/train/recording.hpp"
#include "plait/train/shared_state.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <optional>
#include <set>
#include <tuple>

namespace plait {
namespace detail {

inline RecordedValue recorded(std::int64_t step, std::string name, RecordedValue::Kind kind,
                              Array const& whole) {
    RecordedValue r{.step = step, .name = std::move(name), .kind = kind, .meta = whole.meta()};
    r.hash = hash_of(r.name, whole);
    for (std::int64_t i = 0; i < whole.meta().elements(); ++i) {
        auto const x = whole.at(i);
        r.squares += x * x;
        r.largest = std::isfinite(x) ? std::max(r.largest, std::abs(x)) : std::nan("");
        if (std::isnan(r.largest)) break;
    }
    r.block = whole.shape();
    r.array = whole;
    return r;
}

/// What counts of a variable, without rows of padding.
inline Meta counted_meta(Variable const& v) {
    auto shape = v.meta.shape;
    if (v.counted() < v.meta.elements()) shape[0] = v.rows;
    return {v.meta.dtype, shape};
}
/// As much of `from` as `meta` has room for; the rest is zero. Both are row-major and begin alike.
inline Array resized(Array const& from, Meta const& meta) {
    if (from.meta() == meta) return from;
    Array to(meta);
    std::memcpy(to.bytes().data(), from.bytes().data(), std::min(to.bytes().size(), from.bytes().size()));
    return to;
}

/// A parameter's gradient has its padding.
inline Array counted_result(State const& state, std::string const& name, Array const& whole) {
    for (auto const& v : state.variables())
        if (whole.shape() == v->meta.shape && name == v->path + ".gradient")
            return resized(whole, {whole.meta().dtype, counted_meta(*v).shape});
    return whole;
}

/// Nodes that were recorded at one place have one of these.
using MadeAt = std::tuple<std::string, Phase, bool>;
inline MadeAt made_at(Origin const& o) { return {o.path, o.phase, o.recomputed}; }

/// Where the pieces of this rank's stages work; what another stage makes comes to it as a message.
inline std::set<MadeAt> worked_on(Program const& program) {
    std::set<MadeAt> places;
    for (auto const& piece : program.pieces) {
        if (!slot_of_piece(piece.name)) continue;
        for (int i = piece.first; i < piece.last; ++i) {
            auto const& instruction = program.instructions[static_cast<std::size_t>(i)];
            if (instruction.row) places.insert(made_at(instruction.origin));
        }
    }
    return places;
}

/// Where every rank's block of a value of this shape lies that is laid out so; `makes` says which ranks made
/// it, none of them that it is made of what all have.
inline void note_blocks(RecordedValue& r, Shape const& whole, Layout const& layout, Mesh const& mesh,
                        std::function<bool(int)> const& makes) {
    std::vector<int> makers;
    for (int rank = 0; rank < mesh.ranks(); ++rank)
        if (makes(rank)) makers.push_back(rank);
    bool const all = makers.empty() || std::ssize(makers) == mesh.ranks();
    for (int rank = 0; rank < mesh.ranks(); ++rank) {
        auto& origin = r.origins.emplace_back();
        if (!all && !std::binary_search(makers.begin(), makers.end(), rank)) continue;
        auto [shape, place] = block_of(whole, layout, mesh.seen_by(rank));
        r.block = shape;
        if (place.logical.empty())
            for (int d = 0; d < whole.rank(); ++d) place.origin.push_back(0);
        origin = place.origin;
    }
    if (!all || r.block != whole) return;
    r.block = r.meta.shape;
    r.origins.clear();
}

/// A step's results in the order of the program.
inline std::vector<RecordedValue> recorded_results(Communicator& world, Step& step, Values const& results) {
    auto const& graph = step.dumps().passed;
    auto const index = index_of(graph);
    std::vector<std::pair<int, std::size_t>> order;
    for (std::size_t i = 0; i < results.size(); ++i)
        order.emplace_back(index.at(graph.outputs[i].value.node.get()), i);
    std::stable_sort(order.begin(), order.end(), [](auto& a, auto& b) { return a.first < b.first; });
    std::vector<RecordedValue> values;
    std::vector<std::int64_t> mine;  // hashes, then whether this rank makes the values
    for (auto const& [at, i] : order) {
        auto const& [name, whole] = results[i];
        values.push_back(recorded(step.steps_done(), name, RecordedValue::Kind::result,
                                  counted_result(step.state(), name, whole)));
        mine.push_back(std::bit_cast<std::int64_t>(values.back().hash));
    }
    auto const places = worked_on(step.program());
    for (auto const& [at, i] : order)
        mine.push_back(places.contains(made_at(graph.outputs[i].value.node->origin)));
    auto const all = gather_numbers(world, std::span(std::as_const(mine)));
    for (std::size_t v = 0; v < values.size(); ++v) {
        auto of = [&](int rank, std::size_t number) {
            return all[static_cast<std::size_t>(rank) * mine.size() + number];
        };
        for (int r = world.size(); --r > 0;)
            if (of(r, v) != of(0, v)) values[v].odd_rank = r;
        auto const i = order[v].second;
        note_blocks(values[v], results[i].second.shape(),
                    step.dumps().layouts.held.at(graph.outputs[i].value), step.mesh(),
                    [&](int rank) { return of(rank, values.size() + v) != 0; });
    }
    return values;
}

/// One variable, gathered from all ranks; rank 0 gets it.
inline std::optional<RecordedValue> gathered(Communicator& world, Step& step, Variable const& v) {
    auto all = gather_variable(world, step.state(), v, true);
    if (world.rank() != 0) return {};
    auto const kind =
        v.kind == VariableKind::parameter ? RecordedValue::Kind::parameter : RecordedValue::Kind::state;
    auto r = recorded(step.steps_done(), v.path, kind, resized(all.whole, counted_meta(v)));
    r.block = all.block;
    bool const without = std::find(all.origins.begin(), all.origins.end(), std::nullopt) != all.origins.end();
    if (without || all.block != v.meta.shape) r.origins = std::move(all.origins);
    r.odd_rank = all.odd_rank;
    return r;
}

}  // namespace detail

PLAIT_INLINE double RecordedValue::rms() const {
    return std::sqrt(squares / static_cast<double>(std::max<std::int64_t>(meta.elements(), 1)));
}

PLAIT_INLINE std::uint64_t hashed_bits(Array const& a, std::int64_t i) {
    auto const t = a.meta().dtype;
    if (t == f64 || t == i64) return std::bit_cast<std::uint64_t>(a.at(i));
    return std::bit_cast<std::uint32_t>(static_cast<float>(a.at(i)));
}

PLAIT_INLINE std::uint64_t hash_of(std::string const& name, Array const& whole) {
    std::uint64_t sum = 0, path = hash_name(name);
    for (std::int64_t i = 0; i < whole.meta().elements(); ++i)
        sum += mix(path ^ mix(static_cast<std::uint64_t>(i)) ^ hashed_bits(whole, i));
    return sum;
}

PLAIT_INLINE std::vector<RecordedValue> recorded_values(Communicator& world, Step& step,
                                                        Values const& results, bool keep) {
    auto values = detail::recorded_results(world, step, results);
    if (world.rank() != 0) values.clear();
    if (!keep)
        for (auto& v : values) v.array = {};
    for (auto const& v : step.state().variables())
        if (auto value = detail::gathered(world, step, *v)) {
            if (!keep) value->array = {};
            values.push_back(std::move(*value));
        }
    return values;
}

PLAIT_INLINE void take_variables(State& state, std::vector<RecordedValue> const& values) {
    std::map<std::string, RecordedValue const*> known;
    for (auto const& v : values)
        if (v.kind != RecordedValue::Kind::result) known[v.name] = &v;
    for (auto const& v : state.variables()) {
        auto it = known.find(v->path);
        if (it == known.end()) continue;
        auto const counted = detail::counted_meta(*v);
        check<ShapeError>(it->second->array.meta() == counted, "the recording's '{}' is {}, not {}", v->path,
                          to_string(it->second->array.meta()), to_string(counted));
        Array block(state.block_of(*v));
        copy_block(detail::resized(it->second->array, v->meta), block, state.place_of(*v), false);
        state.write(*v, block);
    }
}

PLAIT_INLINE std::vector<RecordedValue> record_steps(Communicator& world, Step& step, Batches const& batches,
                                                     std::int64_t steps, Recording const* leader) {
    std::vector<RecordedValue> all;
    for (std::int64_t s = 0; s < steps; ++s) {
        if (leader && s > 0) {
            std::vector<RecordedValue> before;
            for (auto const& v : leader->values)
                if (v.step == step.steps_done()) before.push_back(v);
            take_variables(step.state(), before);
        }
        auto const results = step(batches(step.steps_done()));
        for (auto& v : recorded_values(world, step, results, true)) all.push_back(std::move(v));
    }
    return all;
}

}  // namespace plait
