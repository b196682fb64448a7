#pragma once

#include "plait/tensor.hpp"

#include <algorithm>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

namespace plait {

Tensor cast(Tensor const& x, DType dtype);  // elementwise.hpp

/// What the bodies of the ops share: checks of dtypes and dims, rules made by hand, costs.
namespace detail {

inline constexpr std::initializer_list<DType> floating{f32, bf16, f64};

/// The dtype in which sums and statistics of `t` are kept.
constexpr DType wide(DType t) { return t == f64 ? f64 : f32; }

/// x in the dtype in which it is computed with.
inline Tensor widened(Tensor const& x) { return cast(x, wide(x.dtype())); }

/// "unary exp"
template <class Fn>
std::string title(std::string_view op, Fn fn) {
    return fmt::format("{} {}", op, name_of(fn));
}

/// What an input is called, and the dtypes that it may have.
struct Want {
    std::string_view what;
    std::vector<DType> any;
};

/// Throws ShapeError "embedding: tokens given as f32[2], want i32" unless each input has one of the wanted
/// dtypes.
inline void want(std::string_view op, Metas const& in, std::vector<Want> const& wants) {
    for (std::size_t i = 0; i < wants.size(); ++i) {
        auto const& any = wants[i].any;
        if (std::find(any.begin(), any.end(), in[i].dtype) != any.end()) continue;
        std::string names;
        for (auto t : any)
            if (names.find(name_of(t)) == std::string::npos)
                names += (names.empty() ? "" : " or ") + std::string(name_of(t));
        fail<ShapeError>("{}: {} given as {}, want {}", op, wants[i].what, to_string(in[i]), names);
    }
}

inline void want_inputs(std::string_view op, Metas const& in, std::size_t count) {
    check<ShapeError>(in.size() == count, "{}({}): has {} inputs, not {}", op, to_string(in), in.size(),
                      count);
}

/// Throws ShapeError unless the listed dims ascend and lie in `shape`.
inline void want_dims(std::string_view op, Metas const& in, Shape const& shape,
                      std::vector<int> const& dims) {
    int least = 0;
    for (int d : dims) {
        check<ShapeError>(d >= least && d < shape.rank(), "{}({}): dims {} must ascend and lie in {}", op,
                          to_string(in), attribute_text(dims), to_string(shape));
        least = d + 1;
    }
}

/// `dims` counted from 0 and ascending; throws ShapeError where one lies outside `shape`.
inline std::vector<int> ascending(std::string_view op, Shape const& shape, std::vector<int> dims) {
    for (int& d : dims) {
        check<ShapeError>(d >= -shape.rank() && d < shape.rank(), "{}: dim {} lies outside the shape {}", op,
                          d, to_string(shape));
        if (d < 0) d += shape.rank();
    }
    std::sort(dims.begin(), dims.end());
    dims.erase(std::unique(dims.begin(), dims.end()), dims.end());
    return dims;
}

/// The outputs that a rule gives, with these dtypes.
inline Metas outputs(Rule const& rule, std::initializer_list<DType> dtypes) {
    Metas out;
    for (auto t : dtypes) out.push_back({t, rule.output_shape(static_cast<int>(out.size()))});
    return out;
}

inline int add_factor(Rule& rule, std::string name, std::int64_t size, bool whole = false) {
    rule.factors.push_back({std::move(name), size, whole});
    return static_cast<int>(rule.factors.size()) - 1;
}

/// One new factor a dim.
inline Rule::Operand add_dims(Rule& rule, Shape const& shape, bool whole = false) {
    Rule::Operand dims;
    for (auto size : shape)
        dims.push_back({add_factor(rule, std::to_string(rule.factors.size()), size, whole)});
    return dims;
}

/// The rule of an op whose kernel calls a library for its products.
inline Rule by_shape(Rule rule) {
    rule.by_shape = true;
    return rule;
}

/// The rule of an op without inputs, whose output may be laid out in any way.
inline Rule free_rule(Shape const& shape) {
    Rule r;
    r.outputs.push_back(add_dims(r, shape));
    return r;
}

/// Every byte read and written once, and `flops`.
inline Cost cost_of(Metas const& in, Metas const& out, double flops) {
    Cost c{flops};
    for (auto const& m : in) c.bytes_read += static_cast<double>(m.bytes());
    for (auto const& m : out) c.bytes_written += static_cast<double>(m.bytes());
    return c;
}

/// Throws UsageError when a cotangent comes for an output that only helps the backward pass.
inline void no_gradient(std::string_view op, Tensors const& dy, std::initializer_list<int> outputs) {
    for (int i : outputs)
        check<UsageError>(!dy[static_cast<std::size_t>(i)],
                          "{}: output {} helps the backward pass and has no gradient of its own", op, i);
}

}  // namespace detail
}  // namespace plait
