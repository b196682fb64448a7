#pragma once

#include "plait/core/random.hpp"
#include "plait/train/agreement.hpp"
#include "plait/train/recording.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <optional>

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

/// Copies a block into its whole, or out of it.
inline void copy_block(Array const& whole, std::byte* block, Meta const& meta, Placement const& place,
                       bool into_whole) {
    auto const size = bytes_of(meta.dtype, 1);
    for_each_run(meta.shape, place, [&](std::int64_t local, std::int64_t logical, std::int64_t count) {
        auto *a = whole.bytes().data() + logical * size, *b = block + local * size;
        std::memcpy(into_whole ? a : b, into_whole ? b : a, static_cast<std::size_t>(count * size));
    });
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

/// The first rank whose row is not that of an earlier rank with the same key, or -1.
inline int odd_one(std::vector<std::int64_t> const& keys, std::function<bool(int, int)> const& same) {
    for (int r = 1; r < static_cast<int>(keys.size()); ++r)
        for (int first = 0; first < r; ++first)
            if (keys[static_cast<std::size_t>(first)] == keys[static_cast<std::size_t>(r)]) {
                if (!same(first, r)) return r;
                break;
            }
    return -1;
}

/// Where every rank's block of a value of this shape lies that is laid out so.
inline void note_blocks(RecordedValue& r, Shape const& whole, Layout const& layout, Mesh const& mesh) {
    for (int rank = 0; rank < mesh.ranks(); ++rank) {
        auto [shape, place] = block_of(whole, layout, mesh.seen_by(rank));
        if (place.logical.empty()) return;
        r.block = shape;
        r.origins.push_back(place.origin);
    }
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
    std::vector<std::int64_t> hashes;
    for (auto const& [at, i] : order) {
        auto const& [name, whole] = results[i];
        auto r = recorded(step.steps_done(), name, RecordedValue::Kind::result,
                          counted_result(step.state(), name, whole));
        note_blocks(r, whole.shape(), step.dumps().layouts.held.at(graph.outputs[i].value), step.mesh());
        hashes.push_back(std::bit_cast<std::int64_t>(r.hash));
        values.push_back(std::move(r));
    }
    auto const all = gather_numbers(world, std::span(std::as_const(hashes)));
    std::vector<std::int64_t> const alike(static_cast<std::size_t>(world.size()));
    for (std::size_t v = 0; v < values.size(); ++v)
        values[v].odd_rank = odd_one(alike, [&](int a, int b) {
            auto of = [&](int rank) { return all[static_cast<std::size_t>(rank) * values.size() + v]; };
            return of(a) == of(b);
        });
    return values;
}

/// One variable, gathered from all ranks; rank 0 gets it.
inline std::optional<RecordedValue> gathered(Communicator& world, Step& step, Variable const& v) {
    auto const& state = step.state();
    auto const& block = state.block_of(v);
    auto place = state.place_of(v);
    auto const dims = v.meta.shape.rank();
    std::vector<std::int64_t> mine;
    for (int d = 0; d < dims; ++d) {
        mine.push_back(block.shape[d]);
        mine.push_back(place.logical.empty() ? 0 : place.origin[d]);
    }
    mine.push_back(block.bytes());
    auto const rows = gather_numbers(world, std::span(std::as_const(mine)));
    auto row = [&](int r) { return rows.data() + static_cast<std::size_t>(r) * mine.size(); };
    // Ranks of other stages have nothing of it, the rest blocks of one size.
    std::int64_t most = 0;
    for (int r = 0; r < world.size(); ++r) most = std::max(most, row(r)[mine.size() - 1]);
    auto const bytes = static_cast<std::size_t>(most);
    auto const read = state.read(v);
    std::vector<std::byte> own(bytes), all(bytes * static_cast<std::size_t>(world.size()));
    std::copy(read.bytes().begin(), read.bytes().end(), own.begin());
    world.all_gather({own.data(), most, u8}, {all.data(), std::ssize(all), u8}).wait();
    if (world.rank() != 0) return {};
    Array whole(v.meta);
    Meta held = block;
    std::vector<Shape> places;
    std::vector<std::int64_t> keys;
    for (int r = 0; r < world.size(); ++r) {
        if (row(r)[mine.size() - 1] == 0) {
            keys.push_back(-1 - r);
            continue;
        }
        Shape shape, origin;
        std::int64_t key = 0;
        for (int d = 0; d < dims; ++d) {
            shape.push_back(row(r)[2 * d]);
            origin.push_back(row(r)[2 * d + 1]);
            key = key * (v.meta.shape[d] + 1) + origin[d];
        }
        held.shape = shape;
        auto* part = all.data() + static_cast<std::size_t>(r) * bytes;
        // Where copies differ, what the first of them holds counts.
        bool const first = std::find(keys.begin(), keys.end(), key) == keys.end();
        if (first) copy_block(whole, part, held, {origin, v.meta.shape}, true);
        keys.push_back(key);
        places.push_back(origin);
    }
    auto const kind =
        v.kind == VariableKind::parameter ? RecordedValue::Kind::parameter : RecordedValue::Kind::state;
    auto r = recorded(step.steps_done(), v.path, kind, resized(whole, counted_meta(v)));
    r.block = held.shape;
    if (held.shape != v.meta.shape) r.origins = std::move(places);
    r.odd_rank = odd_one(keys, [&](int a, int b) {
        return std::memcmp(all.data() + static_cast<std::size_t>(a) * bytes,
                           all.data() + static_cast<std::size_t>(b) * bytes, bytes) == 0;
    });
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
        detail::copy_block(detail::resized(it->second->array, v->meta), block.bytes().data(), block.meta(),
                           state.place_of(*v), false);
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
