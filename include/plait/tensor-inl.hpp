#pragma once

#include "plait/tensor.hpp"

namespace plait {

PLAIT_INLINE std::shared_ptr<Variable> make_variable(Meta meta, Init init, VariableKind kind,
                                                     std::string path) {
    auto v = std::make_shared<Variable>();
    v->path = std::move(path);
    v->meta = meta;
    v->kind = kind;
    v->init = init;
    // The node knows its variable weakly: the variable owns the node, not the other way round.
    v->source = {record(Source{SourceKind::variable, v->path, meta, v, {}, {}}, {}), 0};
    v->current = v->source;
    return v;
}

PLAIT_INLINE void assign(Variable& v, Tensor const& value) {
    check<ShapeError>(value.meta() == v.meta, "variable '{}' is {}: it cannot take a value of {}", v.path,
                      to_string(v.meta), to_string(value.meta()));
    v.current = value.value();
    Recorder::current().assigned.push_back(&v);
}

PLAIT_INLINE Tensor batch_input(std::string name, Meta meta) {
    return Tensor(Value{record(Source{SourceKind::batch, std::move(name), meta, {}, {}, {}}, {}), 0});
}

PLAIT_INLINE Tensor feed_input(std::string name, Meta meta, Feed write) {
    return Tensor(
        Value{record(Source{SourceKind::feed, std::move(name), meta, {}, {}, std::move(write)}, {}), 0});
}

PLAIT_INLINE Tensor random_key() {
    auto& key = Recorder::current().random_key;
    if (!key)
        key = feed_input("random_key", {i32, {2}}, [](StepInfo const& at, std::byte* to) {
                  std::int32_t words[2] = {static_cast<std::int32_t>(at.seed),
                                           static_cast<std::int32_t>(at.step)};
                  std::memcpy(to, words, sizeof words);
              }).value();
    return Tensor(key);
}

}  // namespace plait
