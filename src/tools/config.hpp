#pragma once

#include "plait/core/check.hpp"
#include "plait/core/fields.hpp"
#include "plait/core/nearest.hpp"
#include "plait/parallel/mesh.hpp"

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

namespace plait::tools {

/// Globs of parameter or module paths; in a file a list, or one string with commas (none inside braces).
struct Globs {
    std::vector<std::string> list;
    bool operator==(Globs const&) const = default;
};

/// Where validation text comes from: a part of data.path (see split_text), or a file or folder of its own. A
/// prepared folder's own part stands for any part but 0.
struct Validation {
    double fraction = 0.05;  // meant when `path` is empty
    std::string path;
    bool operator==(Validation const&) const = default;
};

struct ModelConfig {
    std::string family = "llama";
    std::int64_t dim = 256, layers = 4, heads = 8;
    std::int64_t kv_heads = 0;  // 0: as many as heads
    std::int64_t hidden = 0;    // 0: the family's usual width
    std::int64_t vocab = 256;
    bool tied = false;  // by default true for gpt2
    double dropout = 0, rope_base = 10000, norm_eps = 1e-5;

    using fields =
        Fields<&ModelConfig::family, &ModelConfig::dim, &ModelConfig::layers, &ModelConfig::heads,
               &ModelConfig::kv_heads, &ModelConfig::hidden, &ModelConfig::vocab, &ModelConfig::tied,
               &ModelConfig::dropout, &ModelConfig::rope_base, &ModelConfig::norm_eps>;
};

struct DataConfig {
    std::vector<std::string> path;  // text, files of tokens, or a folder that plait prepare made
    std::string tokenizer;          // tokenizer.json of the tokens; a prepared folder has its own
    std::vector<std::string>
        extensions;              // ".txt"; "": names without one; of files in folders; empty takes all
    std::int64_t max_bytes = 0;  // 0: no limit
    Validation validation;
    std::int64_t batch = 16, seq = 128;

    using fields =
        Fields<&DataConfig::path, &DataConfig::tokenizer, &DataConfig::extensions, &DataConfig::max_bytes,
               &DataConfig::validation, &DataConfig::batch, &DataConfig::seq>;
};

struct OptimizerConfig {
    std::string curve = "cosine";
    double rate = 1e-3, min_rate = 1e-4;
    std::int64_t warmup = 20;  // steps
    double decay = 0.2;        // the last part of run.steps, where the curve wsd goes down
    double weight_decay = 0.1, beta1 = 0.9, beta2 = 0.95, eps = 1e-8;
    double clip = 1;  // largest gradient norm; 0: no clipping
    Globs decay_globs{{"**.weight", "!**.*norm*.weight"}};
    std::string master = "f32";  // what matrices are kept in; bf16: no f32 copy, rounded at random
    double spike = 0;            // deviations above the running mean that make a loss a spike; 0: none is one
    std::int64_t skips = 0;      // bad steps in a row that are skipped
    std::int64_t rollbacks = 0;  // times that the run goes back to the last checkpoint after them

    using fields = Fields<&OptimizerConfig::curve, &OptimizerConfig::rate, &OptimizerConfig::min_rate,
                          &OptimizerConfig::warmup, &OptimizerConfig::decay, &OptimizerConfig::weight_decay,
                          &OptimizerConfig::beta1, &OptimizerConfig::beta2, &OptimizerConfig::eps,
                          &OptimizerConfig::clip, &OptimizerConfig::decay_globs, &OptimizerConfig::master,
                          &OptimizerConfig::spike, &OptimizerConfig::skips, &OptimizerConfig::rollbacks>;
};

struct GranularityConfig {
    std::int64_t batch = 8, data = 8, tensor = 2;

    using fields = Fields<&GranularityConfig::batch, &GranularityConfig::data, &GranularityConfig::tensor>;
};

struct PlanConfig {
    std::string mesh;  // "data=2,tensor=2"; empty: all ranks along data
    std::int64_t zero = 0;
    Globs stages{{"blocks.*"}};  // modules that the pipeline axis divides: one glob, or one for every stage
    std::string schedule = "1f1b";
    std::int64_t virtual_stages = 1, micro_batches = 1;
    Globs recompute;
    std::string compute = "f32", bits = "fast";
    GranularityConfig bits_granularity;
    std::vector<std::string> lines;
    std::int64_t loss_chunk = 0;  // tokens of logits in memory at a time; 0: the library's choice

    using fields = Fields<&PlanConfig::mesh, &PlanConfig::zero, &PlanConfig::stages, &PlanConfig::schedule,
                          &PlanConfig::virtual_stages, &PlanConfig::micro_batches, &PlanConfig::recompute,
                          &PlanConfig::compute, &PlanConfig::bits, &PlanConfig::bits_granularity,
                          &PlanConfig::lines, &PlanConfig::loss_chunk>;
};

struct CheckpointConfig {
    std::int64_t every = 0;  // steps; 0: only at the end
    std::int64_t keep = 2;

    using fields = Fields<&CheckpointConfig::every, &CheckpointConfig::keep>;
};

struct RunConfig {
    std::string out = "runs/default";
    std::int64_t seed = 1, steps = 200;
    std::string cluster = "self";
    std::string cluster_file;  // islands and links of the cluster, as a file describes them; empty: by hosts
    std::string device = "cpu";
    std::int64_t threads = 0;         // workers of one rank; 0: this machine's cores, divided among its ranks
    std::int64_t validate_every = 0;  // steps; 0: only before the first and after the last
    std::int64_t validate_batches = 8;
    std::int64_t sample_every = 0;            // steps; 0: no samples. Else also after the last
    std::vector<std::string> sample_prompts;  // empty: one text from its beginning
    std::int64_t sample_tokens = 100;         // of each text
    double sample_temperature = 0.8;
    bool tensorboard = false, hash = false;

    using fields = Fields<&RunConfig::out, &RunConfig::seed, &RunConfig::steps, &RunConfig::cluster,
                          &RunConfig::cluster_file, &RunConfig::device, &RunConfig::threads,
                          &RunConfig::validate_every, &RunConfig::validate_batches, &RunConfig::sample_every,
                          &RunConfig::sample_prompts, &RunConfig::sample_tokens,
                          &RunConfig::sample_temperature, &RunConfig::tensorboard, &RunConfig::hash>;
};

/// Everything that a run can be told, and where each value came from.
struct Config {
    ModelConfig model;
    DataConfig data;
    OptimizerConfig optimizer;
    PlanConfig plan;
    CheckpointConfig checkpoint;
    RunConfig run;
    std::map<std::string, std::string, std::less<>>
        origins;  // "model.dim" -> "default", "tiny.toml:3", "command line"

    using fields = Fields<&Config::model, &Config::data, &Config::optimizer, &Config::plan,
                          &Config::checkpoint, &Config::run>;
};

/// Calls f("plan.bits_granularity.batch", value) for each key below `object`.
template <class T, class F>
void for_each_key(T& object, F&& f, std::string const& prefix = "") {
    for_each_field(object, [&](std::string_view name, auto& value) {
        auto key = prefix.empty() ? std::string(name) : prefix + "." + std::string(name);
        if constexpr (HasFields<decltype(value)>) for_each_key(value, f, key);
        else f(key, value);
    });
}

/// A value given on the command line, in TOML syntax or as a bare word.
struct Override {
    std::string key, text;
    std::string flag;  // as it was written: "--steps"
};

/// Defaults, then the TOML file (none when empty), then the overrides in order. Throws UsageError of one line
/// for a file that cannot be read or parsed, an unknown key (with the nearest known one) and a value of the
/// wrong type.
Config load_config(std::string const& file, std::vector<Override> const& overrides);

/// The same for TOML text; `name` stands for the file in errors and origins.
Config parse_config(std::string_view toml, std::string const& name,
                    std::vector<Override> const& overrides = {});

/// Throws UsageError with key, value, origin and fix for a value out of range, values that do not go
/// together, and what this version cannot do yet. That data.path is set is left to read_text, as a dry run
/// needs no text.
void check_config(Config const& config);

/// The largest N of run.cluster = "threads:N".
inline constexpr int most_thread_ranks = 1024;
/// N of "threads:N", or nothing for another text.
std::optional<int> threads_of(std::string const& cluster);

/// How many ranks plan.mesh has; 1 when it is not given.
std::int64_t ranks_of_mesh(Config const& config);

/// Rows of the embedding and the head. Where a plan line divides them along tensor they are model.vocab
/// rounded up to bits_granularity.tensor, so that they depend on no mesh; under bits = "fast" to the axis as
/// well.
std::int64_t padded_vocab(Config const& config);

/// The sizes of plan.mesh over a world of `ranks`; all lie along data when it is not given. Throws UsageError
/// as check_config does where the mesh is not the world, does not divide data.batch or plan.micro_batches,
/// or, under plan.bits = "layout", is no power of two or beyond plan.bits_granularity: with the value that
/// covers it.
MeshSizes mesh_of(Config const& config, std::int64_t ranks);

/// The whole configuration as TOML, each value with a comment that says where it came from. Reading it gives
/// the same values.
std::string config_text(Config const& config);

/// The value of a key as TOML: `"llama"`, `[1, 2]`.
std::string value_text(bool value);
std::string value_text(std::int64_t value);
std::string value_text(double value);
std::string value_text(std::string const& value);
std::string value_text(std::vector<std::string> const& value);
std::string value_text(Globs const& value);
std::string value_text(Validation const& value);

}  // namespace plait::tools
