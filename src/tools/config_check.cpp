#include "config.hpp"

#include <algorithm>
#include <bit>
#include <charconv>

#include "plait/graph/glob.hpp"
#include "plait/parallel/plan.hpp"
#include "plait/parallel/schedule.hpp"

namespace plait::tools {
namespace {

using Names = std::vector<std::string>;

class Checker {
  public:
    explicit Checker(Config const& config) : config_(config) {
        for_each_key(config,
                     [&](std::string const& key, auto const& value) { texts_[key] = value_text(value); });
    }

    /// Fails with "model.dim = 65 (tiny.toml:3): ..." unless `ok`.
    template <class... Args>
    void want(bool ok, std::string const& key, fmt::format_string<Args...> format, Args&&... args) const {
        if (ok) return;
        auto const& origin = config_.origins.find(key)->second;
        fail<UsageError>("{} = {} ({}): {}", key, texts_.at(key), origin,
                         fmt::format(format, std::forward<Args>(args)...));
    }
    void at_least(std::int64_t least, std::string const& key, std::int64_t value) const {
        want(value >= least, key, "must be at least {}", least);
    }
    void one_of(Names const& names, std::string const& key, std::string const& value) const {
        std::string list;
        bool found = false;
        for (auto const& n : names) {
            list += (list.empty() ? "" : ", ") + n;
            found |= n == value;
        }
        want(found, key, "must be one of {}; the nearest is {}", list, nearest_name(value, names));
    }
    void not_yet(bool used, std::string const& key, std::string_view use) const {
        want(!used, key, "is not in this version yet: use {}", use);
    }

  private:
    Config const& config_;
    std::map<std::string, std::string> texts_;
};

void check_model(Checker const& c, ModelConfig const& m) {
    c.one_of({"llama", "gpt2"}, "model.family", m.family);
    c.at_least(1, "model.dim", m.dim);
    c.at_least(1, "model.layers", m.layers);
    c.at_least(1, "model.heads", m.heads);
    c.at_least(0, "model.kv_heads", m.kv_heads);
    c.at_least(0, "model.hidden", m.hidden);
    c.want(m.vocab >= 256, "model.vocab", "byte-level tokens run to 255, so it must be at least 256");
    auto below = std::max(m.heads, m.dim / m.heads * m.heads);
    c.want(m.dim % m.heads == 0, "model.dim", "model.heads = {} must divide it: use {} or {}", m.heads, below,
           below + m.heads);
    c.want(m.family != "llama" || m.dim / m.heads % 2 == 0, "model.heads",
           "rotary positions need an even size per head, model.dim / model.heads is {}", m.dim / m.heads);
    c.want(m.kv_heads == 0 || m.heads % m.kv_heads == 0, "model.kv_heads",
           "must divide model.heads = {}, or be 0 for as many", m.heads);
    c.want(m.dropout >= 0 && m.dropout < 1, "model.dropout", "must be at least 0 and below 1");
    c.want(m.rope_base > 0, "model.rope_base", "must be above 0");
    c.want(m.norm_eps > 0, "model.norm_eps", "must be above 0");
}

void check_data(Checker const& c, DataConfig const& d) {
    c.at_least(1, "data.batch", d.batch);
    c.at_least(1, "data.seq", d.seq);
    c.at_least(0, "data.max_bytes", d.max_bytes);
    for (auto const& e : d.extensions)
        c.want(e.empty() || (e.size() > 1 && e[0] == '.'), "data.extensions",
               "\"{}\" must begin with a dot, such as \".txt\"; \"\" takes names without one", e);
    auto fraction = d.validation.fraction;
    c.want(!d.validation.path.empty() || (fraction >= 0 && fraction < 1), "data.validation",
           "must be a part of the text, at least 0 and below 1, or a path");
}

void check_optimizer(Checker const& c, OptimizerConfig const& o, CheckpointConfig const& checkpoint,
                     std::string const& compute) {
    c.one_of({"cosine", "wsd", "linear", "constant"}, "optimizer.curve", o.curve);
    c.want(o.decay >= 0 && o.decay <= 1, "optimizer.decay", "must be a part of run.steps, from 0 to 1");
    c.want(o.spike >= 0, "optimizer.spike", "must not be negative; 0 takes no loss for a spike");
    c.at_least(0, "optimizer.skips", o.skips);
    c.at_least(0, "optimizer.rollbacks", o.rollbacks);
    c.want(o.rollbacks == 0 || checkpoint.every > 0, "optimizer.rollbacks",
           "there is no checkpoint to go back to: set checkpoint.every");
    c.want(o.rate > 0 && o.rate <= 3e38, "optimizer.rate", "must be above 0 and fit f32");
    c.want(o.min_rate >= 0 && o.min_rate <= o.rate, "optimizer.min_rate",
           "must be from 0 to optimizer.rate = {}", o.rate);
    c.at_least(0, "optimizer.warmup", o.warmup);
    c.want(o.weight_decay >= 0, "optimizer.weight_decay", "must not be negative");
    c.want(o.beta1 >= 0 && o.beta1 < 1, "optimizer.beta1", "must be at least 0 and below 1");
    c.want(o.beta2 >= 0 && o.beta2 < 1, "optimizer.beta2", "must be at least 0 and below 1");
    c.want(o.eps > 0, "optimizer.eps", "must be above 0");
    c.one_of({"f32", "bf16"}, "optimizer.master", o.master);
    c.want(o.master == "f32" || compute == "bf16", "optimizer.master",
           "weights in bf16 are computed with in bf16: set plan.compute = \"bf16\"");
    c.want(o.clip >= 0, "optimizer.clip", "must not be negative; 0 turns clipping off");
}

void check_mesh(Checker const& c, std::string const& mesh) {
    Names const axes(std::begin(mesh_axes), std::end(mesh_axes));
    for (std::string_view rest = mesh; !rest.empty();) {
        auto item = rest.substr(0, rest.find(','));
        rest.remove_prefix(std::min(rest.size(), item.size() + 1));
        std::string axis(item.substr(0, item.find('=')));
        c.want(std::find(axes.begin(), axes.end(), axis) != axes.end(), "plan.mesh",
               "there is no axis {}: the nearest is {}", axis, nearest_name(axis, axes));
    }
    std::string wrong;
    try {
        parse_mesh(mesh);
    } catch (UsageError const& e) {
        wrong = std::string(e.what()).substr(std::string_view("mesh: ").size());
    }
    c.want(wrong.empty(), "plan.mesh", "{}", wrong);
}

void check_lines(Checker const& c, Names const& lines) {
    for (auto const& line : lines) {
        std::string wrong;
        try {
            Plan().line(line);
        } catch (UsageError const& e) {
            wrong = e.what();
        }
        c.want(wrong.empty(), "plan.lines", "{}", wrong);
    }
}

void check_plan(Checker const& c, PlanConfig const& p, DataConfig const& d) {
    check_mesh(c, p.mesh);
    c.want(p.zero >= 0 && p.zero <= 3, "plan.zero", "must be 0, 1, 2 or 3");
    bool const table = p.schedule.starts_with("csv:") && p.schedule.size() > 4;
    if (!table) c.one_of(schedule_names(), "plan.schedule", p.schedule);
    c.want(p.schedule != "csv:FILE", "plan.schedule", "FILE stands for the path of a table");
    c.at_least(1, "plan.virtual_stages", p.virtual_stages);
    c.at_least(1, "plan.micro_batches", p.micro_batches);
    c.want(d.batch % p.micro_batches == 0, "plan.micro_batches", "must divide data.batch = {}", d.batch);
    c.one_of({"f32", "bf16", "f64"}, "plan.compute", p.compute);
    c.one_of({"fast", "layout"}, "plan.bits", p.bits);
    auto granule = [&](std::string const& name, std::int64_t value) {
        c.want(value >= 1 && std::has_single_bit(static_cast<std::uint64_t>(value)),
               "plan.bits_granularity." + name, "must be a power of two");
    };
    auto const& g = p.bits_granularity;
    granule("batch", g.batch);
    granule("data", g.data);
    granule("tensor", g.tensor);
    c.want(g.data <= g.batch, "plan.bits_granularity.data",
           "must be at most plan.bits_granularity.batch = {}", g.batch);
    c.want(
        p.bits == "fast" || d.batch % g.batch == 0, "data.batch",
        "plan.bits = \"layout\" cuts it into plan.bits_granularity.batch = {} leaves: use a multiple of it",
        g.batch);
    check_lines(c, p.lines);
    for (auto const& [axis, size] : parse_mesh(p.mesh)) {
        bool const used =
            axis != "tensor" || std::any_of(p.lines.begin(), p.lines.end(), [&](auto const& text) {
                auto const plan = Plan().line(text);
                return std::any_of(plan.lines().begin(), plan.lines().end(),
                                   [&](auto const& line) { return line.axis == axis; });
            });
        c.want(size == 1 || used, "plan.mesh",
               "no plan line divides anything along {}: add \"megatron {}\" to plan.lines, or leave it out",
               axis, axis);
    }
    c.at_least(0, "plan.loss_chunk", p.loss_chunk);
}

void check_run(Checker const& c, RunConfig const& r) {
    c.want(!r.out.empty(), "run.out", "must name the folder of the run");
    c.at_least(0, "run.seed", r.seed);
    c.at_least(1, "run.steps", r.steps);
    c.want(r.threads >= 0 && r.threads <= 1024, "run.threads", "must be from 0 (all cores) to 1024");
    c.at_least(0, "run.validate_every", r.validate_every);
    c.at_least(1, "run.validate_batches", r.validate_batches);
    c.at_least(0, "run.sample_every", r.sample_every);
    c.at_least(1, "run.sample_tokens", r.sample_tokens);
    c.want(r.sample_temperature >= 0, "run.sample_temperature",
           "must not be negative; 0 takes the likeliest token, which soon repeats itself");
    auto kind = r.cluster.substr(0, r.cluster.find(':'));
    c.want(kind != "threads" || threads_of(r.cluster), "run.cluster",
           "write it like threads:2, with 1 to {} ranks", most_thread_ranks);
    if (kind != "threads" && kind != "sim")
        c.one_of({"self", "threads:N", "mpi", "nccl", "sim:NAME"}, "run.cluster", r.cluster);
    c.not_yet(kind == "sim", "run.cluster", "self, threads:N, mpi or nccl");
    c.one_of({"cpu", "cuda"}, "run.device", r.device);
}

/// What shard lines divide of the model must have whole blocks. Of other numbers than these the parameter is
/// named when a step is compiled.
void check_divided(Checker const& c, Config const& config, MeshSizes const& sizes) {
    struct Part {
        char const* key;
        std::int64_t size;
        char const* parameter;
        int dim;
    };
    auto const& m = config.model;
    auto const vocab = padded_vocab(config);
    Part const parts[] = {{"model.vocab", vocab, "tokens.weight", 0},
                          {"model.vocab", vocab, "head.weight", 0},
                          {"model.heads", m.heads, "blocks.0.attention.q.weight", 0},
                          {"model.heads", m.heads, "blocks.0.attention.o.weight", 1},
                          {"model.hidden", m.hidden, "blocks.0.mlp.up.weight", 0},
                          {"model.hidden", m.hidden, "blocks.0.mlp.down.weight", 1}};
    for (auto const& text : config.plan.lines) {
        auto const plan = Plan().line(text);
        for (auto const& line : plan.lines()) {
            auto const it = sizes.find(line.axis);
            std::int64_t blocks = it == sizes.end() ? 1 : it->second;
            bool const canonical = config.plan.bits == "layout" && line.axis == "tensor";
            if (canonical) blocks = config.plan.bits_granularity.tensor;
            for (auto const& p : parts) {
                if (line.stores || line.dim != p.dim || !glob_matches(line.glob, p.parameter)) continue;
                auto const below = p.size / blocks * blocks;
                bool const vocabulary = p.key == std::string_view("model.vocab");
                c.want(p.size % blocks == 0, p.key, "\"{}\" divides it into {} {}: use {}", text, blocks,
                       canonical ? "leaves (plan.bits_granularity.tensor)" : "blocks",
                       vocabulary || !below
                           ? fmt::format("{}{}", below + blocks,
                                         vocabulary ? "; tokens that no text has are never drawn" : "")
                           : fmt::format("{} or {}", below, below + blocks));
            }
        }
    }
}

}  // namespace

void check_config(Config const& config) {
    Checker const c(config);
    check_model(c, config.model);
    check_data(c, config.data);
    check_optimizer(c, config.optimizer, config.checkpoint, config.plan.compute);
    check_plan(c, config.plan, config.data);
    c.at_least(0, "checkpoint.every", config.checkpoint.every);
    c.at_least(1, "checkpoint.keep", config.checkpoint.keep);
    check_run(c, config.run);
    c.want(config.run.device != "cuda" || config.plan.compute != "f64", "plan.compute",
           "GPUs compute in bf16 or f32: use one of these, or run.device = \"cpu\"");
}

std::optional<int> threads_of(std::string const& cluster) {
    constexpr std::string_view kind = "threads:";
    int n = 0;
    if (!cluster.starts_with(kind)) return {};
    auto [end, error] = std::from_chars(cluster.data() + kind.size(), cluster.data() + cluster.size(), n);
    bool const whole = error == std::errc{} && end == cluster.data() + cluster.size();
    return whole && n >= 1 && n <= most_thread_ranks ? std::optional(n) : std::nullopt;
}

std::int64_t ranks_of_mesh(Config const& config) {
    std::int64_t ranks = 1;
    for (auto const& [axis, size] : parse_mesh(config.plan.mesh)) ranks *= size;
    return ranks;
}

MeshSizes mesh_of(Config const& config, std::int64_t ranks) {
    Checker const c(config);
    auto const& p = config.plan;
    auto const batch = config.data.batch;
    // Of a mesh that is not given, the world is to blame.
    std::string const key = p.mesh.empty() ? "run.cluster" : "plan.mesh";
    auto sizes = parse_mesh(p.mesh);
    if (p.mesh.empty()) sizes["data"] = static_cast<int>(ranks);
    else
        c.want(ranks_of_mesh(config) == ranks, key,
               "has {} ranks, but run.cluster = {} has {}: use run.cluster = \"threads:{}\", as many "
               "processes, or another mesh",
               ranks_of_mesh(config), value_text(config.run.cluster), ranks, ranks_of_mesh(config));
    auto size = [&](std::string const& axis) { return sizes.contains(axis) ? sizes.at(axis) : 1; };
    auto const blocks = std::int64_t{size("replica")} * size("data");
    auto const below = std::max(batch / blocks, std::int64_t{1}) * blocks;
    c.want(batch % blocks == 0, "data.batch", "replica x data = {} must divide it: use {} or {}", blocks,
           below, below + blocks);
    auto const& g = p.bits_granularity;
    auto const wrong = misfit(sizes, p.micro_batches, p.bits == "fast" ? Bits::fast : Bits::layout,
                              {g.batch, g.data, g.tensor});
    if (wrong) c.want(false, wrong->key == "mesh" ? key : "plan." + wrong->key, "{}", wrong->text);
    check_divided(c, config, sizes);
    return sizes;
}

}  // namespace plait::tools
