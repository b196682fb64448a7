#pragma once

#include "options.hpp"
#include "plait/plait.hpp"
#include "plait/train/compile.hpp"
#include "training.hpp"

#include <functional>

namespace plait::benchmark {

/// An op at the shapes of a model, and how a plan divides it. Inputs that are no weights have the batch along
/// dim 0. `divided` are inputs and the dims of them that shard lines cut along the tensor axis; those are
/// variables, since lines lay out nothing else that comes from outside.
struct PricedOp {
    std::string name;
    AnyOp op;
    Metas in;
    std::vector<std::size_t> weights;
    std::vector<std::pair<std::size_t, int>> divided{};
};

/// A program of one op.
class OpProgram {
  public:
    OpProgram(PricedOp const& op, Plan plan, std::shared_ptr<Backend> backend)
        : state_(std::make_shared<State>(std::move(backend))), step_(compiled(op, std::move(plan))) {
        for (auto const& [name, meta] : columns_) fill(batch_[name] = Array(meta));
    }

    /// Runs it, and gives what its kernels took, in milliseconds: the op's and those that cut and join.
    double milliseconds() {
        TraceLog log;
        step_.trace(&log);
        step_(batch_);
        step_.trace(nullptr);
        std::int64_t sum = 0;
        for (auto const& e : log.events)
            if (e.what == TraceLog::What::instruction) sum += e.end - e.start;
        return 1e-6 * static_cast<double>(sum);
    }

    /// Calls of kernels in a run.
    std::int64_t kernels() const {
        std::int64_t calls = 0;
        for (auto const& v : step_.program().visits) {
            auto const& piece = step_.program().pieces[static_cast<std::size_t>(v.piece)];
            calls += piece.last - piece.first;
        }
        return calls;
    }

  private:
    static std::string label(std::size_t i) { return "input" + std::to_string(i); }

    Step compiled(PricedOp const& op, Plan plan) {
        std::vector<std::shared_ptr<Variable>> weights(op.in.size());
        auto held = op.weights;
        for (auto [input, dim] : op.divided) held.push_back(input);
        for (auto i : held) {
            if (weights[i]) continue;
            weights[i] = make_variable(op.in[i], Init::uniform(1), VariableKind::parameter, label(i));
            state_->add({weights[i]});
        }
        for (std::size_t i = 0; i < op.in.size(); ++i)
            if (!weights[i]) columns_.emplace_back(label(i), op.in[i]);
        for (auto [input, dim] : op.divided) plan.shard(label(input), "tensor", dim);
        return compile(plan, state_, columns_, [&](Batch const& b) -> Row {
            Tensors in;
            for (std::size_t i = 0; i < op.in.size(); ++i)
                in.push_back(weights[i] ? read(*weights[i]) : b[label(i)]);
            Row row;
            for (auto const& y : apply(op.op, in)) row.emplace_back(std::to_string(row.size()), y);
            return row;
        });
    }
    static void fill(Array const& a) {
        Random const random{7, static_cast<std::uint64_t>(a.meta().elements()), 0};
        for (std::size_t i = 0; i < static_cast<std::size_t>(a.meta().elements()); ++i) {
            auto const x = 2 * random.uniform(i) - 1;
            if (a.meta().dtype == f32) a.values<float>()[i] = x;
            else if (a.meta().dtype == bf16) a.values<Bf16>()[i] = Bf16(x);
            else a.values<std::int32_t>()[i] = static_cast<std::int32_t>(random.uniform(i) * 256);
        }
    }

    std::shared_ptr<State> state_;
    Columns columns_;
    Step step_;
    std::map<std::string, Array> batch_;
};

/// The ops of llama-tiny and gpt2-tiny whose sums or bits the batch cuts.
inline std::vector<PricedOp> batch_ops(DType t) {
    constexpr std::int64_t b = 8, s = 256, d = 384, vocab = 4096;
    auto rows = [&](std::int64_t n) { return Meta{t, {b, s, n}}; };
    auto weight = [&](std::int64_t n, std::int64_t k) { return Meta{t, {n, k}}; };
    Meta const each{f32, {b, s}}, tokens{i32, {b, s}};
    std::vector<PricedOp> ops;
    for (auto n : {d, std::int64_t{1024}, std::int64_t{1536}}) {
        ops.push_back({"product nt", Product{ProductForm::nt}, {rows(d), weight(n, d)}, {1}});
        ops.push_back({"product nn", Product{ProductForm::nn}, {rows(n), weight(n, d)}, {1}});
        ops.push_back({"product tn", Product{ProductForm::tn}, {rows(n), rows(d)}, {}});
    }
    ops.push_back(
        {"linear bias_gelu", Linear{Epilogue::bias_gelu}, {rows(d), weight(1536, d), {t, {1536}}}, {1, 2}});
    ops.push_back(
        {"product gelu gradient", ProductGeluGradient{}, {rows(d), weight(d, 1536), rows(1536)}, {1}});
    ops.push_back({"linear_cross_entropy_step",
                   LinearCrossEntropyStep{1024},
                   {rows(d), weight(vocab, d), tokens, each},
                   {1}});
    ops.push_back({"rms_norm_gradient", RmsNormGradient{}, {rows(d), rows(d), {f32, {d}}, each}, {2}});
    ops.push_back({"embedding_gradient", EmbeddingGradient{}, {tokens, rows(d), weight(vocab, d)}, {2}});
    return ops;
}

/// Those that Megatron's lines cut into leaves, as they cut them.
inline std::vector<PricedOp> tensor_ops(DType t) {
    constexpr std::int64_t b = 8, s = 256, d = 384, n = 1024, vocab = 4096;
    auto rows = [&](std::int64_t k) { return Meta{t, {b, s, k}}; };
    auto weight = [&](std::int64_t i, std::int64_t k) { return Meta{t, {i, k}}; };
    Meta const each{f32, {b, s}}, tokens{i32, {b, s}};
    AnyOp const nt = Product{ProductForm::nt}, nn = Product{ProductForm::nn}, tn = Product{ProductForm::tn};
    return {
        {"columns: product nt", nt, {rows(d), weight(n, d)}, {1}, {{1, 0}}},
        {"columns: product nn", nn, {rows(n), weight(n, d)}, {1}, {{0, 2}, {1, 0}}},
        {"columns: product tn", tn, {rows(n), rows(d)}, {}, {{0, 2}}},
        {"rows: product nt", nt, {rows(n), weight(d, n)}, {1}, {{0, 2}, {1, 1}}},
        {"rows: product nn", nn, {rows(d), weight(d, n)}, {1}, {{1, 1}}},
        {"rows: product tn", tn, {rows(d), rows(n)}, {}, {{1, 2}}},
        {"columns: linear bias_gelu",
         Linear{Epilogue::bias_gelu},
         {rows(d), weight(1536, d), {t, {1536}}},
         {1, 2},
         {{1, 0}, {2, 0}}},
        {"vocabulary: linear_cross_entropy_step",
         LinearCrossEntropyStep{1024},
         {rows(d), weight(vocab, d), tokens, each},
         {1},
         {{1, 0}}},
    };
}

/// Each op at bits = fast and at bits = layout with 2 and 8 leaves, all under the same lines: one table for
/// leaves of the batch, one for leaves of the tensor axis.
inline void print_ops(std::int64_t repeats, int threads) {
    auto const backend = cpu_backend(threads);
    constexpr std::int64_t leaves[] = {2, 8};
    for (bool tensor : {false, true}) {
        fmt::print(
            "{}ops of batch 8 x 256 at bits = fast against leaves of the {}, {} threads, median of {}\n\n",
            tensor ? "\n" : "", tensor ? "tensor axis" : "batch", backend->workers(), repeats);
        fmt::print(
            "| op | shapes | compute | fast ms | 2 leaves / fast | 8 leaves / fast | kernels |\n"
            "|---|---|---|---|---|---|---|\n");
        for (auto t : {f32, bf16})
            for (auto const& op : tensor ? tensor_ops(t) : batch_ops(t)) {
                auto plan = [&] { return Plan(Mesh({{tensor ? "tensor" : "data", 1}}, 0)); };
                std::vector<std::unique_ptr<OpProgram>> programs;
                programs.push_back(std::make_unique<OpProgram>(op, plan(), backend));
                for (auto n : leaves) {
                    auto const granularity = tensor ? Granularity{1, 1, n} : Granularity{n, n, 1};
                    programs.push_back(
                        std::make_unique<OpProgram>(op, plan().bits(Bits::layout, granularity), backend));
                }
                std::vector<std::function<double()>> sides;
                for (auto const& p : programs) sides.push_back([&p] { return p->milliseconds(); });
                auto const r = compare(repeats, sides);
                fmt::print("| {} | {} x {} | {} | {:.2f} | {:.2f} | {:.2f} | {}, {}, {} |\n", op.name,
                           to_string(op.in[0].shape), to_string(op.in[1].shape), name_of(t), r.first,
                           r.ratios[0], r.ratios[1], programs[0]->kernels(), programs[1]->kernels(),
                           programs[2]->kernels());
                std::fflush(stdout);
            }
    }
}

}  // namespace plait::benchmark
