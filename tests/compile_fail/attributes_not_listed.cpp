// expect: conversion from
#include "plait/plait.hpp"

// An attribute that `fields` does not list would be missing from dumps, and unequal ops would look equal.
struct Scale {
    static constexpr std::string_view name = "scale";
    double factor = 2;
    plait::Metas infer(plait::Metas const& in) const { return in; }
    plait::Rule rule(plait::Metas const& in) const { return plait::parse_rule(name, "... -> ...", in); }
};

plait::AnyOp op = Scale{};
