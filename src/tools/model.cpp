#include "model.hpp"

#include <algorithm>

#include "plait/autograd/gradients.hpp"
#include "plait/graph/glob.hpp"
#include "plait/models/language.hpp"
#include "plait/ops/embedding.hpp"
#include "plait/ops/gradient_norm.hpp"
#include "plait/ops/view.hpp"
#include "plait/optim/adamw.hpp"
#include "plait/optim/clip.hpp"

namespace plait::tools {
namespace {

Plan make_plan(PlanConfig const& config, Mesh const& mesh) {
    Plan plan(mesh);
    plan.micro_batches(config.micro_batches).compute(parse_dtype(config.compute));
    for (auto const& glob : config.recompute.list) plan.recompute(glob);
    for (auto const& line : config.lines) plan.line(line);
    plan.zero(static_cast<int>(config.zero));
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
                         .seq = config.data.seq,
                         .tied = m.tied,
                         .dropout = m.dropout,
                         .rope_base = m.rope_base,
                         .norm_eps = m.norm_eps};
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
    auto rate = optim::cosine(o.rate, std::min(o.warmup, config.run.steps), config.run.steps, o.min_rate);
    auto adam = make_optimizer(config, rate);
    auto columns = token_columns(config.data.batch, config.data.seq);
    auto scratch = std::make_shared<Scratch>(backend);
    auto model = make_model(config);
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
            return {{"loss", loss}, {"grad_norm", norm}};
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
                        compile(plan, s, columns, validate, scratch)};
    };
    return std::visit(compile_both, model);
}

Step compile_next_token(Model& model, Config const& config, std::shared_ptr<State> state) {
    auto const seq = config.data.seq, dim = config.model.dim;
    Columns columns{{"tokens", {i32, {1, seq}}}, {"position", {i32, {1}}}};
    return std::visit(
        [&](auto& m) {
            return compile(Plan().compute(parse_dtype(config.plan.compute)), state, columns,
                           [&](Batch const& b) -> Row {
                               nn::Inference inference;
                               auto hidden = reshape(m.hidden(b.tokens), {seq, dim});
                               // Only the row that is asked for goes through the head.
                               auto last = embedding(b["position"], hidden);
                               return {{"logits", cast(linear(last, models::output_weight(m)), f32)}};
                           });
        },
        model);
}

}  // namespace plait::tools
