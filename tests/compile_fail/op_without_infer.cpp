// expect: constraints not satisfied
#include "plait/plait.hpp"

struct Halve {
    static constexpr std::string_view name = "halve";
    plait::Rule rule(plait::Metas const& in) const { return plait::parse_rule(name, "... -> ...", in); }
};

plait::Tensor half(plait::Tensor const& x) { return plait::apply(plait::AnyOp(Halve{}), {x})[0]; }
