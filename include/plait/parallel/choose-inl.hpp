#pragma once

#include "plait/parallel/choose.hpp"
#include "plait/parallel/wishes.hpp"

#include <algorithm>
#include <optional>

namespace plait {
namespace detail {

struct FactorChooser {
    Node const& node;
    Rule const& rule;
    std::vector<AxisLayout> const& inputs;
    AxisCut const& axis;

    struct Cut {
        int factor, input, line;
        bool stored;
    };

    std::string where(Cut const& c) const {
        auto line = c.line >= 0 && static_cast<std::size_t>(c.line) < axis.lines.size()
                        ? fmt::format(" by the plan's \"{}\"", axis.lines[static_cast<std::size_t>(c.line)])
                        : std::string();
        return fmt::format("dim {} of input {}, {}{}", inputs[static_cast<std::size_t>(c.input)].dim, c.input,
                           to_string(node.inputs[static_cast<std::size_t>(c.input)].meta()), line);
    }
    std::string place() const {
        return node.origin.path.empty() ? std::string(node.op.name())
                                        : fmt::format("{} in {}", node.op.name(), node.origin.path);
    }

    bool divides(int factor) const {
        auto f = static_cast<std::size_t>(factor);
        return rule.factors[f].size % (axis.size * (axis.taken.empty() ? 1 : axis.taken[f])) == 0;
    }

    /// Whether blocks of the factor have the bits that they have in the whole.
    bool keeps_bits(int factor) const {
        if (rule.by_shape) return false;
        for (std::size_t o = 0; o < rule.outputs.size(); ++o)
            if (!Rule::holds(rule.outputs[o], factor) && !rule.exact && is_floating(node.outputs[o].dtype))
                return false;
        return true;
    }

    /// The factor that the axis cuts of input `i`, if it may.
    std::optional<Cut> cut_of(std::size_t i) const {
        auto const& dim = rule.inputs[i][static_cast<std::size_t>(inputs[i].dim)];
        if (dim.empty() || !rule.may_cut(dim.front())) return {};
        Cut cut{dim.front(), static_cast<int>(i), inputs[i].line, inputs[i].stored};
        if (divides(cut.factor)) return cut;
        check<UsageError>(cut.stored || cut.line < 0, "layout: {}: {} ranks do not divide {}", place(),
                          axis.size, where(cut));
        return {};
    }

    std::optional<Cut> find() const {
        std::optional<Cut> found;
        for (bool stored : {false, true}) {
            for (std::size_t i = 0; i < inputs.size(); ++i) {
                if (!inputs[i].is_shard() || inputs[i].stored != stored) continue;
                auto cut = cut_of(i);
                if (!cut || (stored && axis.keep_bits && !keeps_bits(cut->factor))) continue;
                check<UsageError>(
                    !found || stored || found->factor == cut->factor || (found->line < 0 && cut->line < 0),
                    "layout: {}: one mesh axis cannot cut both {} and {}", place(),
                    found ? where(*found) : "", where(*cut));
                if (!found) found = cut;
            }
            if (found) break;
        }
        return found;
    }
};

}  // namespace detail

PLAIT_INLINE NodeLayout choose(Node const& node, std::vector<AxisLayout> const& inputs, AxisCut const& axis) {
    Rule rule = node.op.rule(detail::metas_of(node.inputs));
    check(rule.inputs.size() == inputs.size() && rule.outputs.size() == node.outputs.size(),
          "layout: the rule of {} speaks of {} inputs and {} outputs, not {} and {}", node.op.name(),
          rule.inputs.size(), rule.outputs.size(), inputs.size(), node.outputs.size());
    NodeLayout layout{-1, std::vector<AxisLayout>(inputs.size()),
                      std::vector<AxisLayout>(node.outputs.size())};
    auto cut = detail::FactorChooser{node, rule, inputs, axis}.find();
    if (!cut) return layout;
    layout.factor = cut->factor;
    auto shard = [&](int dim) { return AxisLayout::shard(dim, cut->stored, cut->line); };
    for (std::size_t i = 0; i < inputs.size(); ++i)
        if (int d = Rule::outer_dim(rule.inputs[i], cut->factor); d >= 0) layout.inputs[i] = shard(d);
    for (std::size_t i = 0; i < node.outputs.size(); ++i) {
        int d = Rule::outer_dim(rule.outputs[i], cut->factor);
        layout.outputs[i] = d >= 0 ? shard(d) : AxisLayout::partial(rule.combine);
    }
    return layout;
}

namespace detail {

class GraphLayouts {
  public:
    GraphLayouts(Graph const& graph, ResolvedLines const& lines, Mesh const& mesh, Bits bits)
        : lines_(lines),
          mesh_(mesh),
          bits_(bits),
          graph_(graph),
          wish_(wishes(graph, lines, mesh)),
          nesting_(nesting(mesh)) {}

    Layouts run() {
        for (auto const& n : graph_.nodes) source_of(*n) ? lay_source(n) : lay_node(n);
        result_.reduced_at_once = lines_.reduced_at_once;
        result_.reduced_inside = bits_ == Bits::fast;
        return std::move(result_);
    }

  private:
    Layout whole() const { return Layout(mesh_.axes().size()); }

    void lay_source(std::shared_ptr<Node const> const& n) {
        auto const& s = *source_of(*n);
        auto layout = whole();
        if (auto v = s.variable.lock()) {
            if (auto it = lines_.variables.find(v.get()); it != lines_.variables.end()) layout = it->second;
        } else if (s.kind == SourceKind::batch) {
            check<UsageError>(s.meta.shape.rank() > 0, "the batch's column {} is a scalar: it has no samples",
                              s.label);
            mesh_.samples(s.meta.shape[0]);  // throws where the mesh does not divide it
            for (std::string_view name : {"replica", "data"})
                layout[static_cast<std::size_t>(&mesh_.axis(name) - mesh_.axes().data())] =
                    AxisLayout::shard(0);
        }
        result_.made[{n, 0}] = result_.held[{n, 0}] = layout;
    }

    /// Whether addends of this kind may go on as they are: a floating sum has one place only under
    /// Bits::layout.
    bool may_pass(Rule const& rule) const {
        return rule.passes && (rule.combine != Combine::sum || bits_ == Bits::fast);
    }
    /// An input that is whole can be one of the addends.
    static bool takes_wholes(Rule const& rule) { return rule.combine != Combine::sum; }

    /// The node takes addends of some inputs and gives addends, or nothing.
    std::optional<NodeLayout> pass(Node const& n, Rule const& rule, std::size_t a) const {
        if (!may_pass(rule)) return {};
        NodeLayout layout;
        bool any = false;
        for (auto const& v : n.inputs) {
            auto const& made = result_.made.at(v)[a];
            bool addend = made == AxisLayout::partial(rule.combine);
            bool is_whole = !made.is_shard() && !made.is_partial();
            if (!addend && !(is_whole && takes_wholes(rule))) return {};
            any = any || addend;
            layout.inputs.push_back(AxisLayout::partial(rule.combine));
        }
        if (!any) return {};
        layout.outputs.assign(n.outputs.size(), AxisLayout::partial(rule.combine));
        return layout;
    }

    /// Whether the node updates variables, none of which the axis cuts.
    bool updates_whole(Node const& n, std::size_t a) const {
        if (n.origin.phase != Phase::update) return false;
        bool any = false;
        for (auto const& v : n.inputs) {
            auto const* s = source_of(*v.node);
            if (!s || s->kind != SourceKind::variable) continue;
            if (result_.held.at(v)[a].is_shard()) return false;
            any = true;
        }
        return any;
    }

    void lay_node(std::shared_ptr<Node const> const& n) {
        Rule rule = n->op.rule(metas_of(n->inputs));
        std::vector<std::int64_t> taken(rule.factors.size(), 1);
        auto& nodes = result_.nodes[n.get()];
        nodes.resize(mesh_.axes().size());
        for (int at : nesting_) {
            auto a = static_cast<std::size_t>(at);
            if (auto passed = pass(*n, rule, a)) {
                nodes[a] = std::move(*passed);
                continue;
            }
            std::vector<AxisLayout> inputs;
            for (auto const& v : n->inputs) inputs.push_back(result_.held.at(v)[a]);
            // A gradient is gathered, not all that an update of whole variables makes of its blocks.
            if (updates_whole(*n, a))
                for (auto& l : inputs)
                    if (l.stored) l = AxisLayout{};
            auto size = mesh_.axes()[a].size;
            nodes[a] = choose(*n, inputs, {size, taken, lines_.texts, bits_ == Bits::layout});
            if (nodes[a].factor >= 0) taken[static_cast<std::size_t>(nodes[a].factor)] *= size;
        }
        for (int i = 0; i < static_cast<int>(n->outputs.size()); ++i) {
            auto made = whole();
            for (std::size_t a = 0; a < made.size(); ++a)
                made[a] = nodes[a].outputs[static_cast<std::size_t>(i)];
            result_.made[{n, i}] = made;
            result_.held[{n, i}] = held_of({n, i}, std::move(made));
        }
    }

    /// Whether an axis can cut a value so, beside the axes that cut it already.
    bool fits(Value const& v, AxisLayout const& to, std::size_t a, Layout const& layout) const {
        if (!to.is_shard()) return false;
        std::int64_t blocks = mesh_.axes()[a].size;
        for (std::size_t other = 0; other < layout.size(); ++other)
            if (other != a && layout[other].is_shard() && layout[other].dim == to.dim)
                blocks *= mesh_.axes()[other].size;
        return v.meta().shape[to.dim] % blocks == 0;
    }

    /// Addends become what is wished; a marked value lies as its line says.
    Layout held_of(Value const& v, Layout layout) const {
        auto wish = wish_.find(v);
        auto line = lines_.values.find(v);
        for (std::size_t a = 0; a < layout.size(); ++a) {
            if (line != lines_.values.end() && line->second[a].is_shard()) layout[a] = line->second[a];
            else if (layout[a].is_partial())
                layout[a] = wish != wish_.end() && fits(v, wish->second[a], a, layout) ? wish->second[a]
                                                                                       : AxisLayout{};
        }
        return layout;
    }

    ResolvedLines const& lines_;
    Mesh const& mesh_;
    Bits bits_;
    Graph const& graph_;
    ValueMap<Layout> wish_;
    std::vector<int> nesting_;
    Layouts result_;
};

}  // namespace detail

PLAIT_INLINE std::unordered_set<Node const*> gathering_nodes(Graph const& graph, Layouts const& layouts) {
    std::unordered_set<Node const*> found;
    for (auto const& n : graph.nodes) {
        if (source_of(*n) || !n->op.has_define()) continue;
        auto const& axes = layouts.nodes.at(n.get());
        for (std::size_t a = 0; a < axes.size(); ++a)
            for (std::size_t i = 0; i < n->inputs.size(); ++i) {
                auto const& l = layouts.held.at(n->inputs[i])[a];
                auto const& wanted = axes[a].inputs[i];
                if (l.is_shard() && !l.stored && l.line >= 0 && !(wanted.is_shard() && wanted.dim == l.dim))
                    found.insert(n.get());
            }
    }
    return found;
}

PLAIT_INLINE Layouts lay_out(Graph const& graph, ResolvedLines const& lines, Mesh const& mesh, Bits bits) {
    return detail::GraphLayouts(graph, lines, mesh, bits).run();
}

}  // namespace plait
