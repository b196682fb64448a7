// A new op from outside the library: a struct with its attributes, its shapes and its meaning. First it runs
// through that meaning, as no backend has a kernel for it; then it gets a kernel, without a change to Plait.
//
// The op is the soft cap of Gemma 2's logits, y = cap tanh(x / cap) (Gemma team, 2024).
// Run: build/release/bin/examples/04_custom_op
#include <cmath>
#include <cstdio>

#include "plait/core/random.hpp"
#include "plait/cpu/thread_pool.hpp"
#include "plait/plait.hpp"

using namespace plait;

struct SoftCap {
    static constexpr std::string_view name = "example.soft_cap";
    double cap = 30;
    using fields = Fields<&SoftCap::cap>;  // attributes: dumps print them, equal ones make equal nodes

    // Any dim may be split over ranks or micro-batches, and the output is split like the input.
    Rule rule(Metas const& in) const { return parse_rule(name, "... -> ...", in); }
    Metas infer(Metas const& in) const { return {{in[0].dtype, rule(in).output_shape(0)}}; }
    Aliases aliases() const { return {{0, 0}}; }  // y may take x's memory
    Tensors define(Tensors const& x) const { return {cap * tanh(x[0] / cap)}; }
    Tensors vjp(Tensors const&, Tensors const& y, Tensors const& dy) const {
        return {dy[0] * (1.0 - square(y[0] / cap))};
    }
};
Tensor soft_cap(Tensor const& x, double cap) { return apply_one(SoftCap{cap}, {x}); }

// The kernel: tiles of a fixed size, so that the bits do not depend on the number of threads.
void soft_cap_kernel(KernelCall const& call) {
    check(call.in[0].meta.dtype == f32, "soft_cap: the kernel is for f32, not {}",
          name_of(call.in[0].meta.dtype));
    auto const cap = static_cast<float>(call.attributes<SoftCap>().cap);
    auto const* x = call.in[0].as<float>();
    auto* y = call.out[0].as<float>();
    std::int64_t const n = call.in[0].meta.elements(), tile = 4096;
    call.pool->run((n + tile - 1) / tile, [&](std::int64_t t, int) {
        for (auto i = t * tile; i < std::min(n, (t + 1) * tile); ++i) y[i] = cap * std::tanh(x[i] / cap);
    });
}

/// A backend with more rows in its table.
class Extended final : public Backend {
  public:
    Extended(std::shared_ptr<Backend> base, std::vector<KernelRow> more)
        : base_(std::move(base)), rows_(more) {
        for (auto const& row : base_->kernels()) rows_.push_back(row);
    }
    std::string_view name() const override { return base_->name(); }
    KernelTable kernels() const override { return rows_; }
    int workers() const override { return base_->workers(); }
    std::shared_ptr<std::byte[]> allocate(std::int64_t bytes) override { return base_->allocate(bytes); }
    void write(std::byte* to, std::span<std::byte const> from) override { base_->write(to, from); }
    void read(std::span<std::byte> to, std::byte const* from) override { base_->read(to, from); }
    void call(KernelRow const& row, KernelCall& call) override { base_->call(row, call); }

  private:
    std::shared_ptr<Backend> base_;
    std::vector<KernelRow> rows_;
};

/// x[rows, 8] -> capped logits of 4 classes.
struct Classifier {
    nn::Linear hidden{8, 32, true}, out{32, 4};
    Tensor operator()(Tensor const& x) const { return soft_cap(out(gelu(hidden(x))), 2); }
    using fields = Fields<&Classifier::hidden, &Classifier::out>;
};

/// Trains for some steps and gives the losses; `named` tells whether the program calls the op by its name.
std::vector<double> train(std::shared_ptr<Backend> backend, bool& named) {
    Classifier model;
    optim::AdamW adam{.rate = 1e-2};
    auto memory = state(model, adam, std::move(backend));
    auto step = compile(Plan().micro_batches(4), memory, {{"x", {f32, {64, 8}}}, {"class", {i32, {64}}}},
                        [&](Batch const& b) -> Row {
                            auto [loss, slopes] = value_and_gradients(
                                model, [&] { return cross_entropy(model(b["x"]), b["class"]); });
                            adam.update(model, slopes);
                            return {{"loss", loss}};
                        });
    named = step.program().text().find(SoftCap::name) != std::string::npos;
    // The class is the place of the largest of the first four numbers.
    Array x({f32, {64, 8}}), classes({i32, {64}});
    for (std::size_t i = 0; i < 64 * 8; ++i) x.values<float>()[i] = Random{3}.normal(i);
    for (std::size_t i = 0; i < 64; ++i) {
        auto row = x.values<float>().subspan(i * 8, 4);
        classes.values<std::int32_t>()[i] =
            static_cast<int>(std::max_element(row.begin(), row.end()) - row.begin());
    }
    std::vector<double> losses;
    for (int i = 0; i < 60; ++i) losses.push_back(step({{"x", x}, {"class", classes}})[0].second.item());
    return losses;
}

int main() {
    // The gradient against central differences, in f64.
    auto y = [](double at) { return evaluate(soft_cap(full({}, at, f64), 2)).item(); };
    double worst = 0, h = 1e-5;
    for (double at : {-3.0, -0.5, 0.0, 1.0, 4.0}) {
        Tensor x = full({}, at, f64);
        double slope = evaluate(gradients(soft_cap(x, 2), {x})[0]).item();
        worst = std::max(worst, std::abs(slope - (y(at + h) - y(at - h)) / (2 * h)));
    }
    std::printf("gradient against differences: off by %.1e at most\n", worst);

    bool named = true, named_with_kernel = false;
    auto defined = train(cpu_backend(), named);
    auto kernel = train(
        std::make_shared<Extended>(cpu_backend(), std::vector<KernelRow>{{SoftCap::name, soft_cap_kernel}}),
        named_with_kernel);
    double apart = 0;
    for (std::size_t i = 0; i < kernel.size(); ++i) apart = std::max(apart, std::abs(kernel[i] - defined[i]));
    std::printf("loss %.4f -> %.4f by definition, %.4f by kernel; at most %.1e apart\n", defined.front(),
                defined.back(), kernel.back(), apart);
    bool ok = worst < 1e-8 && !named && named_with_kernel && apart < 1e-4 && kernel.back() < 0.5 * kernel[0];
    return ok ? 0 : 1;
}
