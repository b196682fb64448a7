#include "model.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <map>

#include "plait/autograd/gradients.hpp"
#include "plait/cuda/device.hpp"
#include "plait/graph/glob.hpp"
#include "plait/io/file.hpp"
#include "plait/models/language.hpp"
#include "plait/nn/module.hpp"
#include "plait/ops/elementwise.hpp"
#include "plait/ops/gradient_norm.hpp"
#include "plait/optim/adamw.hpp"
#include "plait/optim/clip.hpp"
#include "plait/parallel/layout.hpp"
#include "plait/parallel/lines.hpp"
#include "plait/parallel/schedule_check.hpp"
#include "plait/train/shared_state.hpp"

namespace plait::tools {
namespace {

/// Checked before anything is recorded; what is wrong is told with its key.
Schedule schedule_of(PlanConfig const& config, int ranks, int micro_batches) {
    try {
        auto schedule = make_schedule(config.schedule, ranks, static_cast<int>(config.virtual_stages),
                                      micro_batches, [](std::string const& path) { return read_file(path); });
        check_schedule(schedule);
        check_micro_order(schedule);
        return schedule;
    } catch (UsageError const& e) {
        fail<UsageError>("plan.schedule = \"{}\": {}", config.schedule, e.what());
    }
}

Plan make_plan(PlanConfig const& config, Mesh const& mesh) {
    Plan plan(mesh);
    plan.micro_batches(config.micro_batches).compute(parse_dtype(config.compute));
    for (auto const& glob : config.recompute.list) plan.recompute(glob);
    for (auto const& line : config.lines) plan.line(line);
    plan.zero(static_cast<int>(config.zero));
    plan.stages(config.stages.list,
                [config](int ranks, int micro_batches) { return schedule_of(config, ranks, micro_batches); });
    auto const& g = config.bits_granularity;
    if (config.bits == "layout") plan.bits(Bits::layout, {g.batch, g.data, g.tensor});
    return plan;
}

optim::AdamW make_optimizer(Config const& config, optim::Curve rate) {
    auto const& o = config.optimizer;
    std::string decays;
    for (auto const& glob : o.decay_globs.list) decays += (decays.empty() ? "" : ", ") + glob;
    return {.rate = std::move(rate),
            .beta1 = o.beta1,
            .beta2 = o.beta2,
            .eps = o.eps,
            .weight_decay = o.weight_decay,
            .decays = std::move(decays)};
}

void check_decay_globs(Config const& config, State const& state) {
    for (auto const& glob : config.optimizer.decay_globs.list) {
        auto plain = glob.starts_with('!') ? glob.substr(1) : glob;
        bool used = std::any_of(state.variables().begin(), state.variables().end(),
                                [&](auto const& v) { return glob_matches(plain, v->path); });
        check<UsageError>(used, "optimizer.decay_globs ({}): \"{}\" names no parameter; there is {}",
                          config.origins.at("optimizer.decay_globs"), glob, state.variables().front()->path);
    }
}

optim::Curve curve_of(Config const& config) {
    auto const& o = config.optimizer;
    auto const steps = config.run.steps, warmup = std::min(o.warmup, steps);
    if (o.curve == "constant") return optim::constant(o.rate, warmup);
    if (o.curve == "linear") return optim::linear(o.rate, warmup, steps, o.min_rate);
    if (o.curve == "cosine") return optim::cosine(o.rate, warmup, steps, o.min_rate);
    auto const decay = static_cast<std::int64_t>(std::llround(o.decay * static_cast<double>(steps)));
    return optim::wsd(o.rate, warmup, steps, std::min(decay, steps - warmup), o.min_rate);
}

/// f32[]: what `limit` holds when a step begins.
Tensor limit_of(std::shared_ptr<float const> limit) {
    return feed_input("loss_limit", {f32, {}}, [limit](StepInfo const&, std::byte* to) {
        std::memcpy(to, limit.get(), sizeof *limit);
    });
}

/// What each rank copies of the state when it saves while training goes on: its share of the distinct
/// blocks. Nothing where it saves at the end alone.
std::vector<std::int64_t> planned_snapshots(Config const& config, Programs const& programs) {
    auto const& variables = programs.state->variables();
    auto const& mesh = programs.plan.mesh();
    std::vector<std::int64_t> bytes(static_cast<std::size_t>(mesh.ranks()));
    if (config.checkpoint.every == 0) return bytes;
    auto const lines = resolve_lines(programs.plan, programs.train.dumps().passed, variables);
    auto const& holders = programs.train.dumps().holders;
    std::vector<std::int64_t> places;
    std::vector<std::int64_t> sizes;
    for (int r = 0; r < mesh.ranks(); ++r) {
        auto const other = mesh.seen_by(r);
        for (auto const& v : variables) {
            auto const [shape, place] = block_of(*v, lines.variables.at(v.get()), other, holders);
            places.push_back(BlockHolders::place_number(shape, place));
            sizes.push_back(placed_bytes({v->meta.dtype, shape}));
        }
    }
    auto const written = BlockHolders(std::move(places), variables.size()).written();
    for (std::size_t r = 0; r < bytes.size(); ++r)
        for (auto v : written[r]) bytes[r] += sizes[r * variables.size() + v];
    return bytes;
}

/// The norm before clipping, which a limit of 0 leaves out.
Tensor clipped_norm(Gradients& gradients, double clip) {
    if (clip > 0) return clip_norm(gradients, clip);
    OriginScope origin({"optimizer", Phase::update, false});
    Tensors all;
    for (auto const& [variable, g] : gradients.entries) all.push_back(g);
    return gradient_norm(all);
}

}  // namespace

Model make_model(Config const& config) {
    auto const& m = config.model;
    models::Config sizes{.dim = m.dim,
                         .layers = m.layers,
                         .heads = m.heads,
                         .kv_heads = m.kv_heads,
                         .hidden = m.hidden,
                         .vocab = m.vocab,
                         .padded_vocab = padded_vocab(config),
                         .seq = config.data.seq,
                         .tied = m.tied,
                         .dropout = m.dropout,
                         .rope_base = m.rope_base,
                         .norm_eps = m.norm_eps};
    if (config.run.device == "cuda") sizes.loss_chunk = cuda::loss_chunk;
    if (config.plan.loss_chunk > 0) sizes.loss_chunk = config.plan.loss_chunk;
    if (m.family == "gpt2") return models::Gpt2(sizes);
    return models::Llama(sizes);
}

std::shared_ptr<State> state_of(Model& model, std::shared_ptr<Backend> backend) {
    return std::visit([&](auto& m) { return state(m, backend); }, model);
}

Programs compile_programs(Config const& config, Mesh const& mesh, std::shared_ptr<Backend> backend,
                          std::vector<std::string> const& watch) {
    auto const& o = config.optimizer;
    auto rate = curve_of(config);
    std::shared_ptr<float> limit;
    if (o.spike > 0) limit = std::make_shared<float>(std::numeric_limits<float>::max());
    auto adam = make_optimizer(config, rate);
    auto columns = token_columns(config.data.batch, config.data.seq);
    auto scratch = std::make_shared<Scratch>(backend);
    auto model = make_model(config);
    keep_matrices_in(model, parse_dtype(o.master));
    auto compile_both = [&](auto& m) {
        auto s = state(m, backend);
        check_decay_globs(config, *s);
        check_plan_lines(config, *s);
        auto const plan = make_plan(config.plan, mesh);
        auto watching = plan;
        for (auto const& glob : watch) watching.watch(glob);
        s->add(adam.prepare(s->variables()));
        auto train = [&](Batch const& b) -> Row {
            auto [loss, gradients] =
                value_and_gradients(m, [&] { return models::loss(m, b.tokens, b.targets); });
            auto norm = clipped_norm(gradients, o.clip);
            adam.update(m, gradients);
            Row row{{"loss", loss}, {"grad_norm", norm}};
            // Not a number above the limit, so the step stores nothing then.
            if (limit) row.emplace_back("room", sqrt(limit_of(limit) - loss));
            return row;
        };
        auto validate = [&](Batch const& b) -> Row {
            nn::Inference inference;
            return {{"loss", models::loss(m, b.tokens, b.targets)}};
        };
        return Programs{plan,
                        s,
                        scratch,
                        rate,
                        compile(watching, s, columns, train, scratch),
                        compile(plan, s, columns, validate, scratch),
                        limit};
    };
    auto programs = std::visit(compile_both, model);
    programs.snapshot_bytes = planned_snapshots(config, programs)[static_cast<std::size_t>(mesh.rank())];
    return programs;
}

std::optional<Programs> compile_larger(Config const& config, std::shared_ptr<Backend> const& backend,
                                       Programs const& than) {
    auto const& here = than.plan.mesh();
    auto const snapshots = planned_snapshots(config, than);
    // Ranks of one stage have arenas of one size, and other parts of a snapshot.
    std::map<int, int> most_of;  // by coordinate along the pipeline, the rank with the largest
    for (int rank = 0; rank < here.ranks(); ++rank) {
        auto const [it, fresh] = most_of.try_emplace(here.seen_by(rank).axis("pipeline").coordinate, rank);
        auto bytes = [&](int r) { return snapshots[static_cast<std::size_t>(r)]; };
        if (bytes(rank) > bytes(it->second)) it->second = rank;
    }
    std::optional<Programs> larger;
    auto most = than.all_bytes();
    for (auto const& [stage, rank] : most_of) {
        bool const alike = stage == here.axis("pipeline").coordinate;
        auto const snapshot = snapshots[static_cast<std::size_t>(rank)];
        if (alike && than.arena_bytes() + snapshot <= most) continue;
        auto programs = compile_programs(config, here.seen_by(rank), backend);
        if (programs.all_bytes() <= most) continue;
        most = programs.all_bytes();
        larger.emplace(std::move(programs));
    }
    return larger;
}

void keep_matrices_in(Model& model, DType dtype) {
    std::visit([&](auto& m) { nn::keep_matrices_in(m, dtype); }, model);
}

DType dtype_in_training(Config const& config, Variable const& v) {
    return v.meta.shape.rank() < 2 ? f32 : parse_dtype(config.optimizer.master);
}

}  // namespace plait::tools
