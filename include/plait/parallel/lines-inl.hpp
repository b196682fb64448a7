#pragma once

#include "plait/graph/glob.hpp"
#include "plait/parallel/lines.hpp"

#include <algorithm>

namespace plait {
namespace detail {

class LineReader {
  public:
    explicit LineReader(Plan const& plan) : plan_(plan), used_(plan.lines().size(), false) {
        for (auto const& line : plan.lines()) texts_.push_back(to_string(line));
    }

    std::vector<std::string> const& texts() const { return texts_; }
    Layout whole() const { return Layout(plan_.mesh().axes().size()); }

    /// Puts every line that `speaks` of a value of this name into its layout; shard lines first, so that what
    /// is stored divided is a block of what is.
    template <class F>
    void lay_out(std::string_view name, Meta const& meta, Layout& layout, F const& speaks) {
        for (bool stores : {false, true})
            for (std::size_t i = 0; i < plan_.lines().size(); ++i) {
                auto const& line = plan_.lines()[i];
                if (line.stores != stores || !speaks(line) || !glob_matches(line.glob, name)) continue;
                used_[i] = true;
                add(static_cast<int>(i), name, meta, layout);
            }
    }

    void check_used(bool marks) const {
        for (std::size_t i = 0; i < used_.size(); ++i) {
            auto const& line = plan_.lines()[i];
            // Presets speak of all there is; a program without gradients or optimizer has none of theirs.
            bool may_idle = line.glob == "**" || !marks;
            check<UsageError>(used_[i] || may_idle, "plan: \"{}\" names nothing in the program", texts_[i]);
        }
    }

  private:
    void add(int number, std::string_view name, Meta const& meta, Layout& layout) {
        auto const& line = plan_.lines()[static_cast<std::size_t>(number)];
        auto const& text = texts_[static_cast<std::size_t>(number)];
        auto const& axis = plan_.mesh().axis(line.axis);
        auto a = static_cast<std::size_t>(&axis - plan_.mesh().axes().data());
        int rank = meta.shape.rank();
        auto divided = [&](int dim) {
            std::int64_t blocks = axis.size;
            for (std::size_t other = 0; other < layout.size(); ++other)
                if (other != a && layout[other].is_shard() && layout[other].dim == dim)
                    blocks *= plan_.mesh().axes()[other].size;
            return meta.shape[dim] % blocks == 0;
        };
        int dim = line.dim;
        if (dim == PlanLine::first_dim) {
            if (layout[a].is_shard()) return;  // the axis divides it already
            for (dim = 0; dim < rank && !divided(dim);) ++dim;
            if (dim == rank) return;
        }
        check<UsageError>(dim < rank, "plan: \"{}\": {} is {}, so there is no dim {}", text, name,
                          to_string(meta), dim);
        check<UsageError>(divided(dim), "plan: \"{}\": {} = {} does not divide dim {} of {}, {}", text,
                          line.axis, axis.size, dim, name, to_string(meta));
        auto& l = layout[a];
        if (l.is_shard()) {
            check<UsageError>(l.dim == dim && l.stored == line.stores,
                              "plan: \"{}\" contradicts \"{}\" about {}", text,
                              texts_[static_cast<std::size_t>(l.line)], name);
            return;
        }
        // Of an axis of one rank only the bits of a layout know.
        if (axis.size == 1 && plan_.bits() == Bits::fast) return;
        l = AxisLayout::shard(dim, line.stores, number);
    }

    Plan const& plan_;
    std::vector<std::string> texts_;
    std::vector<bool> used_;
};

inline std::unordered_map<Variable const*, Layout> read_variables(
    LineReader& lines, std::vector<std::shared_ptr<Variable>> const& variables) {
    std::unordered_map<Variable const*, Layout> layouts;
    for (auto const& v : variables) {
        auto& layout = layouts[v.get()] = lines.whole();
        if (v->kind == VariableKind::other) continue;
        bool optimizer = v->kind == VariableKind::optimizer;
        auto const& name = optimizer && !v->parameter.empty() ? v->parameter : v->path;
        auto kind = optimizer ? Stored::optimizer : Stored::parameter;
        // The state of a parameter that is sharded is sharded with it.
        lines.lay_out(name, v->meta, layout,
                      [&](PlanLine const& line) { return !line.stores || line.what == kind; });
    }
    return layouts;
}

/// An activation has the batch along dim 0, which replica and data divide whatever a line says.
inline void check_activation(Plan const& plan, Mark const& mark, Layout const& layout,
                             std::vector<std::string> const& texts) {
    auto const& mesh = plan.mesh();
    for (std::size_t a = 0; a < layout.size(); ++a) {
        auto const& l = layout[a];
        if (!l.is_shard()) continue;
        auto const& text = texts[static_cast<std::size_t>(l.line)];
        auto const& axis = mesh.axes()[a];
        bool batch = axis.name == "replica" || axis.name == "data";
        check<UsageError>(
            !batch || plan.bits() == Bits::fast,
            "plan: \"{}\": under bits = layout {} divides the batch of an activation and nothing else", text,
            axis.name);
        std::int64_t blocks = axis.size;
        if (l.dim == 0 && !batch) blocks *= mesh.axis("replica").size * mesh.axis("data").size;
        check<UsageError>(mark.value.meta().shape[l.dim] % blocks == 0,
                          "plan: \"{}\": {} blocks do not divide dim {} of {}, {}", text, blocks, l.dim,
                          mark.name, to_string(mark.value.meta()));
    }
}

}  // namespace detail

PLAIT_INLINE ResolvedLines resolve_lines(Plan const& plan, Graph const& graph,
                                         std::vector<std::shared_ptr<Variable>> const& variables) {
    detail::LineReader lines(plan);
    ResolvedLines resolved;
    resolved.variables = detail::read_variables(lines, variables);
    for (auto const& m : graph.marks) {
        constexpr std::string_view suffix = ".gradient";
        auto name = m.name.ends_with(suffix) ? m.name.substr(0, m.name.size() - suffix.size()) : m.name;
        bool gradient = name != m.name && std::any_of(variables.begin(), variables.end(),
                                                      [&](auto const& v) { return v->path == name; });
        auto layout = lines.whole();
        // A gradient is cut as its parameter is; only what is stored of it is for the lines to say.
        lines.lay_out(name, m.value.meta(), layout, [&](PlanLine const& line) {
            return !line.stores || line.what == (gradient ? Stored::gradient : Stored::activation);
        });
        for (auto& l : layout)
            if (gradient && !l.stored) l = AxisLayout{};
        if (layout == lines.whole()) continue;
        if (!gradient) detail::check_activation(plan, m, layout, lines.texts());
        auto [known, fresh] = resolved.values.emplace(m.value, layout);
        check<UsageError>(fresh || known->second == layout,
                          "plan: {} has two names, and lines that contradict each other about it", m.name);
        if (gradient) resolved.reduced_at_once.insert(m.value);
    }
    bool trains = !graph.updates.empty();
    lines.check_used(trains);
    resolved.texts = lines.texts();
    return resolved;
}

}  // namespace plait
