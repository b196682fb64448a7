// Tensors, gradients and their values, without a model: what is recorded is a graph, gradients add nodes to
// it, and evaluate() runs what is asked for. Everything is checked against central differences.
//
// Run: build/release/bin/examples/01_autograd
#include <cmath>
#include <cstdio>
#include <functional>

#include "plait/plait.hpp"

using namespace plait;

namespace {

/// A scalar of x f64[3] with a bit of everything: sum(softmax(tanh(x w)) * x), w fixed.
Tensor f(Tensor const& x) {
    auto w = Tensor(Array(Shape{3, 3}, std::vector<double>{1, -2, 0.5, 0.25, 1, -1, 2, 0, 0.75}));
    return sum(softmax(tanh(linear(x, w))) * x);
}

Tensor constant(std::vector<double> const& values) {
    return Tensor(Array(Shape{static_cast<std::int64_t>(values.size())}, values));
}

/// (f(x + h d) - f(x - h d)) / 2h
double slope(std::function<Tensor(Tensor const&)> const& f, std::vector<double> x,
             std::vector<double> const& d) {
    double const h = 1e-5;
    auto at = [&](double step) {
        auto moved = x;
        for (std::size_t i = 0; i < x.size(); ++i) moved[i] += step * d[i];
        return evaluate(f(constant(moved))).item();
    };
    return (at(h) - at(-h)) / (2 * h);
}

bool agree(char const* what, double ours, double theirs) {
    bool ok = std::abs(ours - theirs) <= 1e-7 * std::max(1.0, std::abs(theirs));
    std::printf("  %-14s %12.9f   by differences %12.9f   %s\n", what, ours, theirs, ok ? "ok" : "WRONG");
    return ok;
}

}  // namespace

int main() {
    // A tensor knows its dtype and shape at once. Its numbers come when something is evaluated.
    std::vector<double> const at{0.3, -1.2, 0.7};
    Tensor x = constant(at);
    Tensor y = f(x);
    std::printf("y is %s, recorded as\n%s\n", to_string(y.meta()).c_str(),
                Graph::of({{"y", y.value()}}).text().c_str());
    std::printf("y = %.9f\n", evaluate(y).item());

    bool ok = true;
    std::puts("first derivatives:");
    Tensor dy = gradients(y, {x})[0];
    Array slopes = evaluate(dy);
    for (std::size_t i = 0; i < at.size(); ++i) {
        std::vector<double> direction(at.size());
        direction[i] = 1;
        ok &= agree(("dy/dx" + std::to_string(i)).c_str(), slopes.at(static_cast<std::int64_t>(i)),
                    slope(f, at, direction));
    }

    // A gradient is a tensor like any other, so it has gradients too: here the Hessian times v, by
    // differentiating sum(dy * v), compared with differences of the first derivative along v.
    std::puts("second derivatives along v:");
    std::vector<double> const v{1, 0.5, -2};
    Array product = evaluate(gradients(sum(dy * constant(v)), {x})[0]);
    for (int i = 0; i < 3; ++i) {
        auto derivative = [&](Tensor const& z) { return sum(slice(gradients(f(z), {z})[0], 0, i, 1)); };
        ok &= agree(("(H v)" + std::to_string(i)).c_str(), product.at(i), slope(derivative, at, v));
    }

    // Shapes are checked while recording; the message names the op, the shapes and the dims that clash.
    try {
        linear(x, full({4, 2}, 1, f64));
        ok = false;
    } catch (ShapeError const& e) {
        std::printf("a wrong shape says:\n  %s\n", e.what());
    }
    return ok ? 0 : 1;
}
