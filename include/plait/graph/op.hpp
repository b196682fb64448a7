#pragma once

#include "plait/core/fields.hpp"
#include "plait/core/shape.hpp"
#include "plait/graph/rule.hpp"

#include <concepts>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <typeinfo>
#include <vector>

namespace plait {

class Tensor;
using Tensors = std::vector<Tensor>;

/// What an op costs on the shapes at hand.
struct Cost {
    double flops = 0;  // floating-point operations; a multiply-add is two
    double bytes_read = 0, bytes_written = 0;
};

/// Output `output` may take the buffer of input `input` when nothing reads that input later.
/// A `view` always shares it: the op moves no bytes.
struct Alias {
    int output = 0, input = 0;
    bool view = false;
};
using Aliases = std::vector<Alias>;

/// An op is a struct whose fields are its attributes. It must infer its outputs and say how its dims may be
/// split; the rest is optional: `cost` (else every byte read and written once), `aliases`, `define` (its
/// meaning in simpler ops; without it every backend needs a kernel), `vjp` (without it the op stops gradients
/// with an error), and `localized` (attributes that hold sizes, made to fit a block).
template <class T>
concept Op = std::copyable<T> && requires(T const& op, Metas const& in) {
    { T::name } -> std::convertible_to<std::string_view>;
    { op.infer(in) } -> std::same_as<Metas>;
    { op.rule(in) } -> std::same_as<Rule>;
} &&(HasFields<T> || std::is_empty_v<T>);

/// "0.5", "true", "[2, 0]": an attribute as the dump prints it.
template <class T>
std::string attribute_text(T const& value) {
    if constexpr (std::is_same_v<T, bool>) return value ? "true" : "false";
    else if constexpr (std::is_same_v<T, DType>) return std::string(name_of(value));
    else if constexpr (std::is_arithmetic_v<T>) return fmt::format("{}", value);
    else if constexpr (std::is_enum_v<T>) return std::string(name_of(value));
    else if constexpr (requires { value.has_value(); }) return value ? attribute_text(*value) : "none";
    else if constexpr (std::is_convertible_v<T, std::string_view>)
        return std::string(std::string_view(value));
    else if constexpr (requires { to_string(value); }) return to_string(value);
    else {
        std::string text = "[";
        for (auto const& v : value) text += (text.size() > 1 ? ", " : "") + attribute_text(v);
        return text + "]";
    }
}

/// Any op behind one type; copies share the op, which never changes.
class AnyOp {
  public:
    template <class T>
    requires(!std::same_as<T, AnyOp> && Op<T>) AnyOp(T op)
        : self_(std::make_shared<Model<T>>(std::move(op))) {}

    std::string_view name() const { return self_->name(); }
    std::type_info const& type() const { return self_->type(); }
    /// "rms_norm(eps=1e-06)": equal texts mean equal ops.
    std::string text() const { return self_->text(); }
    Metas infer(Metas const& in) const { return self_->infer(in); }
    Rule rule(Metas const& in) const { return self_->rule(in); }
    Cost cost(Metas const& in) const { return self_->cost(in); }
    Aliases aliases() const { return self_->aliases(); }
    bool has_define() const { return self_->has_define(); }
    Tensors define(Tensors const& x) const;
    bool has_vjp() const { return self_->has_vjp(); }
    /// Cotangents of the inputs; an empty tensor where there is none. `dy` may hold empty tensors.
    Tensors vjp(Tensors const& x, Tensors const& y, Tensors const& dy) const;
    /// The op with attributes that fit a block: `in` and `out` are the block's metas.
    AnyOp localized(Metas const& in, Metas const& out) const { return self_->localized(*this, in, out); }

    /// The op as a `T`, or null.
    template <Op T>
    T const* as() const {
        return self_->type() == typeid(T) ? &static_cast<Model<T> const*>(self_.get())->op : nullptr;
    }

  private:
    struct Any {
        virtual ~Any() = default;
        virtual std::type_info const& type() const = 0;
        virtual std::string_view name() const = 0;
        virtual std::string text() const = 0;
        virtual Metas infer(Metas const&) const = 0;
        virtual Rule rule(Metas const&) const = 0;
        virtual Cost cost(Metas const&) const = 0;
        virtual Aliases aliases() const = 0;
        virtual bool has_define() const = 0;
        virtual Tensors define(Tensors const&) const = 0;
        virtual bool has_vjp() const = 0;
        virtual Tensors vjp(Tensors const&, Tensors const&, Tensors const&) const = 0;
        virtual AnyOp localized(AnyOp const& same, Metas const&, Metas const&) const = 0;
    };

    template <Op T>
    struct Model final : Any {
        explicit Model(T o) : op(std::move(o)) {}
        T op;

        static constexpr bool defined = requires(T const& o, Tensors const& x) { o.define(x); };
        static constexpr bool differentiable = requires(T const& o, Tensors const& x) { o.vjp(x, x, x); };

        std::type_info const& type() const override { return typeid(T); }
        std::string_view name() const override { return T::name; }
        std::string text() const override {
            std::string text(T::name);
            if constexpr (HasFields<T>) {
                std::string list;
                for_each_field(op, [&](std::string_view name, auto const& value) {
                    list += (list.empty() ? "" : ", ") + std::string(name) + "=" + attribute_text(value);
                });
                text += "(" + list + ")";
            }
            return text;
        }
        Metas infer(Metas const& in) const override { return op.infer(in); }
        Rule rule(Metas const& in) const override { return op.rule(in); }
        Cost cost(Metas const& in) const override {
            if constexpr (requires { op.cost(in); }) {
                return op.cost(in);
            } else {
                Cost c;
                for (auto const& m : in) c.bytes_read += static_cast<double>(m.bytes());
                for (auto const& m : op.infer(in)) {
                    c.bytes_written += static_cast<double>(m.bytes());
                    c.flops += static_cast<double>(m.elements());
                }
                return c;
            }
        }
        Aliases aliases() const override {
            if constexpr (requires { op.aliases(); }) return op.aliases();
            else return {};
        }
        bool has_define() const override { return defined; }
        Tensors define(Tensors const& x) const override;
        bool has_vjp() const override { return differentiable; }
        Tensors vjp(Tensors const& x, Tensors const& y, Tensors const& dy) const override;
        AnyOp localized(AnyOp const& same, Metas const& in, Metas const& out) const override {
            if constexpr (requires { op.localized(in, out); }) return op.localized(in, out);
            else return same;
        }
    };

    std::shared_ptr<Any const> self_;
};

}  // namespace plait
