#pragma once

#include "plait/core/combine.hpp"
#include "plait/core/inline.hpp"
#include "plait/core/shape.hpp"

#include <string>
#include <string_view>
#include <vector>

namespace plait {

/// How the dims of an op may be split: each dim is a product of named factors, outermost first. A factor that
/// inputs and outputs share shards; one that an output lacks is contracted, and that output is partial over
/// its blocks.
struct Rule {
    struct Factor {
        std::string name;
        std::int64_t size = 1;
        bool whole = false;  // must not be split
    };
    using Dim = std::vector<int>;  // indices into `factors`, outermost first; empty for a dim of size 1
    using Operand = std::vector<Dim>;

    std::vector<Factor> factors;
    std::vector<Operand> inputs, outputs;
    std::vector<bool> like;  // inputs that only lend their shape: they follow layouts and are never moved
    bool exact = false;      // contracted sums add zeros only (embedding, pick), so their order is free
    Combine combine = Combine::sum;  // how blocks of a contracted factor become the whole
    bool by_shape = false;           // the bits of a block depend on its shape: a library computes it
    bool passes = false;  // blocks that are yet to be combined in this way may go in, and come out so

    /// Whether `factor` occurs in the operand.
    static bool holds(Operand const& operand, int factor);
    /// The dim of `operand` whose outermost factor is `factor`, or -1.
    static int outer_dim(Operand const& operand, int factor);
    /// Whether blocks of `factor` are blocks of every operand: not whole, and outermost wherever it occurs.
    bool may_cut(int factor) const;
    /// The shape that the factors give output `output`.
    Shape output_shape(int output) const;
};

/// Reads "... m !k, ~n !k -> ... m n": operands by commas, dims by spaces, `...` for all leading dims, as
/// many in every operand, `!` marks a factor whole, `1` a dim without factor, `(h g)` a product of two
/// factors, `~` before an operand one that only lends its shape. Factor sizes come from `in`, and for a
/// product the one unknown by division. Throws ShapeError naming `op` and the dims that clash.
Rule parse_rule(std::string_view op, std::string_view spec, Metas const& in);

}  // namespace plait

#ifdef PLAIT_HEADER_ONLY
#include "plait/graph/rule-inl.hpp"
#endif
