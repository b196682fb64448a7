#pragma once

#include <cstddef>
#include <string_view>
#include <type_traits>

namespace plait {

namespace detail {
template <auto Member>
constexpr std::string_view signature() {
    return __PRETTY_FUNCTION__;
}
template <class C, class T>
C class_of(T C::*);
template <class C, class T>
T type_of(T C::*);
}  // namespace detail

/// The name of a data member: member_name<&Mlp::gate>() == "gate".
template <auto Member>
constexpr std::string_view member_name() {
    std::string_view s = detail::signature<Member>();
    std::size_t end =
        s.find_first_of(";]", s.find("::*") == std::string_view::npos ? s.rfind("= &") : s.rfind("::"));
    s = s.substr(0, end);
    return s.substr(s.rfind(':') + 1);
}

/// The listed members of a struct, in order: `using fields = Fields<&Mlp::gate, &Mlp::up>;`
/// Modules list parameters and sub-modules, ops their attributes, configurations their keys.
template <auto... Members>
struct Fields {
    static constexpr std::size_t size = sizeof...(Members);

    /// Calls f(name, member) for each member of `object`.
    template <class T, class F>
    static void visit(T& object, F&& f) {
        (f(member_name<Members>(), object.*Members), ...);
    }
};

template <class T>
concept HasFields = requires {
    typename std::remove_cvref_t<T>::fields;
};

/// Calls f(name, member) for each listed member of `object`.
template <HasFields T, class F>
void for_each_field(T& object, F&& f) {
    std::remove_cvref_t<T>::fields::visit(object, f);
}

}  // namespace plait
