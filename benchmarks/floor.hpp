#pragma once

#include "plait/exec/program.hpp"
#include "plait/graph/micro.hpp"
#include "plait/graph/parts.hpp"
#include "plait/ops/attention.hpp"
#include "plait/ops/cache.hpp"
#include "plait/ops/embedding.hpp"
#include "plait/ops/loss.hpp"
#include "plait/ops/matmul.hpp"
#include "plait/ops/update.hpp"
#include "plait/ops/view.hpp"

#include <algorithm>
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

// What a program cannot do without: its products, to be timed alone, and the bytes that the rest moves. It is
// taken from the instructions as they are: one that the program does not need is in the floor too.
namespace plait::benchmark {

/// An op that computes more than it moves, on shapes that the program has.
struct FloorProduct {
    AnyOp op;
    Metas in;
    std::uint32_t accumulate = 0;  // outputs that it adds to
    double calls = 0;              // a step

    double flops() const { return op.cost(in).flops; }  // of a call
    std::string text() const {
        std::string text = op.text() + (accumulate ? " +=" : "");
        for (auto const& m : in) text += " " + to_string(m);
        return text;
    }
};

/// One instruction's part of it.
struct FloorWork {
    std::vector<FloorProduct> products;  // with the calls of one run of the instruction
    double bytes = 0;                    // besides what the products read and write
};

namespace detail {

inline Metas metas_of(std::vector<Operand> const& operands) {
    Metas metas;
    for (auto const& o : operands) metas.push_back(o.meta);
    return metas;
}
inline double bytes_of(Meta const& m) { return static_cast<double>(m.bytes()); }

inline bool same_place(Operand const& a, Operand const& b) {
    return a.region == b.region && a.offset == b.offset && a.micro_stride == b.micro_stride;
}

/// The bytes of operands, each place once.
class Places {
  public:
    void add(Operand const& o, double at_most) {
        auto const size = std::min(bytes_of(o.meta), at_most);
        auto& known = sizes_[{o.region, o.offset}];
        known = std::max(known, size);
    }
    double bytes() const {
        double sum = 0;
        for (auto const& [place, size] : sizes_) sum += size;
        return sum;
    }

  private:
    std::map<std::pair<Region, std::int64_t>, double> sizes_;
};

/// The input of which an op reads no more than it writes, or -1.
inline int picked_input(AnyOp const& op) {
    if (op.as<Embedding>()) return 1;
    return op.as<Slice>() || op.as<Part>() || op.as<MicroTake>() || op.as<Pick>() ? 0 : -1;
}

/// Each operand read once and each result written once. What only lends its shape is not read, and what stays
/// where it was is not moved.
inline double moved_bytes(Instruction const& i, std::uint32_t accumulate) {
    auto const like = i.op.rule(metas_of(i.in)).like;
    auto const aliases = i.op.aliases();
    bool const copies = std::any_of(aliases.begin(), aliases.end(), [](Alias const& a) { return a.view; });
    auto stays = [&](Operand const& from) { return copies && same_place(from, i.out[0]); };
    double results = 0;
    for (auto const& o : i.out) results += bytes_of(o.meta);
    Places read, written;
    for (std::size_t k = 0; k < i.in.size(); ++k) {
        bool const lends = k < like.size() && like[k];
        if (lends || stays(i.in[k])) continue;
        read.add(i.in[k], static_cast<int>(k) == picked_input(i.op) ? results : bytes_of(i.in[k].meta));
    }
    for (std::size_t k = 0; k < i.out.size(); ++k) {
        written.add(i.out[k], bytes_of(i.out[k].meta));
        if (accumulate >> k & 1) read.add(i.out[k], bytes_of(i.out[k].meta));
    }
    return read.bytes() + (copies ? std::min(written.bytes(), read.bytes()) : written.bytes());
}

/// The products of the output projection and its loss, in chunks of tokens, as the kernel makes them.
inline void add_loss_products(FloorWork& work, Metas const& in, std::int64_t chunk, std::int64_t classes,
                              bool gradient, bool adds) {
    auto const type = in[0].dtype;
    auto const dim = in[0].shape.back(), tokens = in[0].elements() / std::max<std::int64_t>(dim, 1);
    auto const vocab = classes > 0 ? classes : in[1].shape[0];
    Meta const weight{type, {vocab, dim}};
    for (std::int64_t first = 0; first < tokens; first += chunk) {
        auto const n = std::min(chunk, tokens - first);
        Meta const x{type, {n, dim}}, logits{type, {n, vocab}};
        work.products.push_back({Product{ProductForm::nt}, {x, weight}, 0, 1});
        if (!gradient) continue;
        work.products.push_back({Product{ProductForm::nn}, {logits, weight}, 0, 1});
        work.products.push_back({Product{ProductForm::tn}, {logits, x}, first > 0 || adds, 1});
    }
}

inline bool computes(AnyOp const& op, Metas const& in) {
    if (op.as<Product>() || op.as<MatMul>() || op.as<Attention>() || op.as<AttentionGradient>() ||
        op.as<CachedAttention>())
        return true;
    // What this file does not know by name: more operations than a look at each element takes.
    std::int64_t elements = 0;
    for (auto const& m : in) elements += m.elements();
    for (auto const& m : op.infer(in)) elements += m.elements();
    return op.cost(in).flops > 2 * static_cast<double>(elements);
}

}  // namespace detail

/// What a run of an instruction cannot do without; of an op that holds products and more, these and the bytes
/// of the rest. `again`: a later micro-batch, which adds to sums. Nothing for collectives.
inline FloorWork floor_work(Instruction const& i, bool again) {
    FloorWork work;
    if (!i.row) return work;
    auto const in = detail::metas_of(i.in), out = detail::metas_of(i.out);
    auto const adds = again ? i.accumulate : 0;
    auto rest = [&](std::initializer_list<Meta> operands) {
        for (auto const& m : operands) work.bytes += detail::bytes_of(m);
    };
    if (i.op.as<Linear>()) {
        work.products.push_back({Product{ProductForm::nt}, {in[0], in[1]}, 0, 1});
        rest({in[2]});
        if (out.size() > 1) rest({out[1]});
    } else if (i.op.as<ProductGeluGradient>()) {
        work.products.push_back({Product{ProductForm::nn}, {in[0], in[1]}, 0, 1});
        rest({in[2]});
    } else if (i.op.as<LinearGradient>()) {
        work.products.push_back({Product{ProductForm::tn}, {in[0], in[1]}, adds & 1, 1});
        rest({out[1]});
    } else if (auto const* loss = i.op.as<LinearCrossEntropy>()) {
        detail::add_loss_products(work, in, loss->chunk, loss->classes, false, false);
        rest({in[2], out[0], out[1]});
    } else if (auto const* gradient = i.op.as<LinearCrossEntropyGradient>()) {
        detail::add_loss_products(work, in, gradient->chunk, gradient->classes, true, adds & 0b10);
        rest({in[2], in[3], in[4]});
    } else if (auto const* step = i.op.as<LinearCrossEntropyStep>()) {
        detail::add_loss_products(work, in, step->chunk, step->classes, true, adds & 0b1000);
        rest({in[2], in[3], out[0], out[1]});
    } else if (detail::computes(i.op, in)) {
        work.products.push_back({i.op, in, adds, 1});
    } else {
        work.bytes = detail::moved_bytes(i, adds);
    }
    return work;
}

/// Instructions of one name, a step.
struct FloorKind {
    std::string name;
    double calls = 0, bytes = 0;
    std::map<std::size_t, double> products;  // calls of each product of the floor
};

struct Floor {
    std::vector<FloorProduct> products;  // each op on each shapes once
    std::vector<FloorKind> kinds;
    std::vector<std::size_t> kind_of;  // of each instruction

    double bytes() const {
        double sum = 0;
        for (auto const& k : kinds) sum += k.bytes;
        return sum;
    }
    double flops() const {
        double sum = 0;
        for (auto const& p : products) sum += p.calls * p.flops();
        return sum;
    }
};

/// "product nt", "linear bias_gelu", "attention".
inline std::string kind_name(Instruction const& i) {
    std::string name(i.op.name());
    if (auto const* p = i.op.as<Product>()) name += " " + std::string(name_of(p->form));
    if (auto const* l = i.op.as<Linear>()) name += " " + std::string(name_of(l->epilogue));
    return i.collective || i.awaits >= 0 ? "collectives" : name;
}

inline Floor floor_of(Program const& program) {
    Floor floor;
    std::map<std::string, std::size_t> known, kinds;
    for (auto const& i : program.instructions) {
        auto const [kind, fresh] = kinds.emplace(kind_name(i), floor.kinds.size());
        if (fresh) floor.kinds.push_back({kind->first, 0, 0, {}});
        floor.kind_of.push_back(kind->second);
    }
    std::vector<std::pair<double, double>> visits(program.pieces.size());  // first micro-batches, later ones
    for (auto const& v : program.visits) {
        auto& of_piece = visits[static_cast<std::size_t>(v.piece)];
        (v.micro > 0 ? of_piece.second : of_piece.first) += 1;
    }
    for (std::size_t p = 0; p < program.pieces.size(); ++p)
        for (bool again : {false, true}) {
            auto const times = again ? visits[p].second : visits[p].first;
            if (times == 0) continue;
            for (int n = program.pieces[p].first; n < program.pieces[p].last; ++n) {
                auto const at = static_cast<std::size_t>(n);
                auto& kind = floor.kinds[floor.kind_of[at]];
                auto const work = floor_work(program.instructions[at], again);
                kind.calls += times, kind.bytes += times * work.bytes;
                for (auto const& product : work.products) {
                    auto const [which, fresh] = known.emplace(product.text(), floor.products.size());
                    if (fresh) floor.products.push_back({product.op, product.in, product.accumulate, 0});
                    floor.products[which->second].calls += times * product.calls;
                    kind.products[which->second] += times * product.calls;
                }
            }
        }
    return floor;
}

}  // namespace plait::benchmark
