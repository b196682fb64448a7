#pragma once

#include "plait/parallel/plan.hpp"

#include <algorithm>
#include <bit>
#include <charconv>
#include <numeric>

namespace plait {

PLAIT_INLINE std::string to_string(PlanLine const& line) {
    auto dim = line.dim == PlanLine::first_dim ? "*" : std::to_string(line.dim);
    auto text = fmt::format("{} {} {} {}", line.stores ? "store" : "shard", line.glob, line.axis, dim);
    return line.stores ? fmt::format("{} of {}", text, name_of(line.what)) : text;
}

PLAIT_INLINE PlanLine parse_plan_line(std::string const& text) {
    std::vector<std::string> words;
    for (std::size_t at = 0; (at = text.find_first_not_of(" \t", at)) != std::string::npos;) {
        auto end = std::min(text.find_first_of(" \t", at), text.size());
        words.push_back(text.substr(at, end - at));
        at = end;
    }
    check<UsageError>(
        !words.empty() && (words[0] == "shard" || words[0] == "store"),
        "\"{}\": must begin with shard or store, or be a preset: megatron AXIS, sequence AXIS, zero LEVEL",
        text);
    PlanLine line;
    line.stores = words[0] == "store";
    check<UsageError>(words.size() == (line.stores ? 6u : 4u) && (!line.stores || words[4] == "of"),
                      "\"{}\": write it like {}", text,
                      line.stores ? "store GLOB AXIS DIM of KIND" : "shard GLOB AXIS DIM");
    line.glob = words[1], line.axis = words[2];
    if (words[3] == "*") {
        line.dim = PlanLine::first_dim;
    } else {
        auto const& number = words[3];
        auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), line.dim);
        check<UsageError>(error == std::errc{} && end == number.data() + number.size() && line.dim >= 0,
                          "\"{}\": the dim {} is no number from 0", text, number);
    }
    if (!line.stores) return line;
    constexpr Stored all[] = {Stored::parameter, Stored::gradient, Stored::optimizer, Stored::activation};
    auto it = std::find_if(std::begin(all), std::end(all), [&](Stored s) { return name_of(s) == words[5]; });
    check<UsageError>(it != std::end(all),
                      "\"{}\": there is no {}: use parameter, gradient, optimizer or activation", text,
                      words[5]);
    line.what = *it;
    return line;
}

PLAIT_INLINE Plan& Plan::line(PlanLine line) {
    mesh_.axis(line.axis);  // throws where there is none
    check<UsageError>(line.axis != "pipeline",
                      "plan: \"{}\": the pipeline axis divides modules, not values: use stages",
                      to_string(line));
    if (std::find(lines_.begin(), lines_.end(), line) == lines_.end()) lines_.push_back(std::move(line));
    return *this;
}

PLAIT_INLINE Plan& Plan::line(std::string const& text) {
    auto space = text.find(' ');
    auto word = text.substr(0, space), rest = space == std::string::npos ? "" : text.substr(space + 1);
    if (word == "megatron" || word == "sequence") {
        check<UsageError>(detail::is_mesh_axis(rest), "\"{}\": write it like {} tensor", text, word);
        return word == "megatron" ? megatron(rest) : sequence(rest);
    }
    if (word == "zero") {
        check<UsageError>(rest.size() == 1 && rest[0] >= '0' && rest[0] <= '3',
                          "\"{}\": write it like zero 2", text);
        return zero(rest[0] - '0');
    }
    return line(parse_plan_line(text));
}

PLAIT_INLINE Plan& Plan::zero(int level) {
    check<UsageError>(level >= 0 && level <= 3, "plan: zero({}): use 0, 1, 2 or 3", level);
    constexpr Stored kinds[] = {Stored::optimizer, Stored::gradient, Stored::parameter};
    for (int i = 0; i < level; ++i) store("**", "data", PlanLine::first_dim, kinds[i]);
    return *this;
}

PLAIT_INLINE Plan& Plan::megatron(std::string const& axis) {
    return shard("blocks.**.{q,k,v,gate,up}.{weight,bias}", axis, 0)
        .shard("blocks.**.{o,down}.weight", axis, 1)
        .shard("{tokens,head}.weight", axis, 0);
}

PLAIT_INLINE Plan& Plan::sequence(std::string const& axis) { return store("{tokens,blocks.*}.out", axis, 1); }

PLAIT_INLINE Plan& Plan::stages(std::string glob, std::string const& schedule, int virtual_stages) {
    return stages(std::vector{std::move(glob)}, [=](int ranks, int micro_batches) {
        return make_schedule(schedule, ranks, virtual_stages, micro_batches);
    });
}

PLAIT_INLINE Plan& Plan::stages(std::vector<std::string> globs, ScheduleOf schedule) {
    check<UsageError>(!globs.empty(), "plan: stages without modules: name them, like blocks.*");
    stages_ = std::move(globs);
    schedule_ = std::move(schedule);
    return *this;
}

PLAIT_INLINE Schedule Plan::schedule() const {
    auto ranks = mesh_.axis("pipeline").size;
    check<UsageError>(!stages_.empty(), "plan: pipeline={} wants stages: say which modules, like blocks.*",
                      ranks);
    auto micro = local_micro_batches();
    auto schedule = schedule_(ranks, static_cast<int>(micro));
    check<UsageError>(schedule.ranks == ranks && schedule.micro_batches == micro,
                      "plan: schedule {} is of {} ranks and {} micro-batches, not {} and {}", schedule.name,
                      schedule.ranks, schedule.micro_batches, ranks, micro);
    return schedule;
}

PLAIT_INLINE Plan& Plan::micro_batches(std::int64_t count) {
    check<UsageError>(count >= 1, "plan: {} micro-batches: use 1 or more", count);
    micro_batches_ = count;
    return *this;
}

PLAIT_INLINE Plan& Plan::compute(DType dtype) {
    check<UsageError>(is_floating(dtype), "plan: cannot compute in {}: use f32, bf16 or f64", name_of(dtype));
    compute_ = dtype;
    return *this;
}

PLAIT_INLINE Plan& Plan::bits(Bits bits, Granularity g) {
    for (auto [name, n] : {std::pair{"batch", g.batch}, {"data", g.data}, {"tensor", g.tensor}})
        check<UsageError>(n >= 1 && std::has_single_bit(static_cast<std::uint64_t>(n)),
                          "plan: a granularity of {} = {}: use a power of two", name, n);
    check<UsageError>(g.data <= g.batch, "plan: a granularity of data = {} is above batch = {}", g.data,
                      g.batch);
    bits_ = bits;
    granularity_ = g;
    return *this;
}

PLAIT_INLINE std::optional<Misfit> misfit(MeshSizes const& sizes, std::int64_t micro_batches, Bits bits,
                                          Granularity const& g) {
    auto size = [&](std::string_view axis) {
        auto it = sizes.find(axis);
        return std::int64_t{it == sizes.end() ? 1 : it->second};
    };
    auto const ranks = size("replica") * size("data");
    // Each rank has a piece at least.
    auto const pieces = std::max(micro_batches, ranks);
    auto const pieces_text = std::to_string(micro_batches);
    if (pieces % ranks != 0)
        return Misfit{"micro_batches", pieces_text,
                      fmt::format("must be a multiple of replica x data = {}", ranks)};
    if (bits == Bits::fast) return {};
    auto power_of_two = [](std::int64_t n) { return std::has_single_bit(static_cast<std::uint64_t>(n)); };
    for (auto const& [axis, n] : sizes)
        if (axis != "pipeline" && !power_of_two(n))
            return Misfit{
                "mesh", fmt::format("{}={}", axis, n),
                fmt::format("bits = \"layout\" wants axes that are powers of two, not {} = {}", axis, n)};
    if (!power_of_two(pieces))
        return Misfit{"micro_batches", pieces_text, "must be a power of two under bits = \"layout\""};
    struct Cover {
        std::string name;
        std::int64_t granule;
        std::string_view what;
        std::int64_t has;
    };
    for (auto const& c : {Cover{"data", g.data, "replica x data", ranks},
                          {"batch", g.batch, "replica x data x micro-batches in time", pieces},
                          {"tensor", g.tensor, "tensor", size("tensor")}})
        if (c.has > c.granule)
            return Misfit{"bits_granularity." + c.name, std::to_string(c.granule),
                          fmt::format("{} = {} is beyond it, and the bits depend on it: {} would cover it",
                                      c.what, c.has, c.has)};
    return {};
}

PLAIT_INLINE std::int64_t Plan::local_micro_batches() const {
    MeshSizes sizes;
    for (auto const& a : mesh_.axes()) sizes[a.name] = a.size;
    if (auto const m = misfit(sizes, micro_batches_, bits_, granularity_))
        fail<UsageError>("plan: {} = {}: {}", m->key, m->value, m->text);
    std::int64_t const ranks = mesh_.axis("replica").size * mesh_.axis("data").size;
    return std::max(micro_batches_, ranks) / ranks;
}

}  // namespace plait
