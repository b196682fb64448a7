#pragma once

#include "plait/comm/self.hpp"
#include "plait/parallel/mesh.hpp"

#include <algorithm>
#include <charconv>

namespace plait {
namespace detail {

inline std::string axis_names() {
    std::string text;
    for (auto name : mesh_axes) text += (text.empty() ? "" : ", ") + std::string(name);
    return text;
}

inline bool is_mesh_axis(std::string_view name) {
    return std::find(std::begin(mesh_axes), std::end(mesh_axes), name) != std::end(mesh_axes);
}

/// The axes as seen from a place of the mesh.
inline std::vector<MeshAxis> laid_axes(MeshSizes const& sizes, int place) {
    for (auto const& [name, size] : sizes) {
        check<UsageError>(is_mesh_axis(name), "mesh: there is no axis {}: use {}", name, axis_names());
        check<UsageError>(size >= 1, "mesh: {} has size {}: use 1 or more", name, size);
    }
    std::int64_t ranks = 1;
    for (auto const& [name, size] : sizes) {
        check<UsageError>(ranks <= (1 << 24) / size, "mesh: more than {} ranks", 1 << 24);
        ranks *= size;
    }
    std::vector<MeshAxis> axes;
    for (auto name : mesh_axes) {
        auto it = sizes.find(name);
        axes.push_back({std::string(name), it == sizes.end() ? 1 : it->second, 0});
    }
    for (auto a = axes.rbegin(); a != axes.rend(); ++a) a->coordinate = place % a->size, place /= a->size;
    return axes;
}

/// Where `rank` stands in an order of ranks.
inline int place_of(int rank, std::vector<int> const& order) {
    if (order.empty()) return rank;
    std::vector<bool> seen(order.size());
    int place = -1;
    for (std::size_t i = 0; i < order.size(); ++i) {
        bool const known = order[i] >= 0 && order[i] < std::ssize(order);
        check(known && !seen[static_cast<std::size_t>(order[i])],
              "mesh: the order of ranks is no permutation: place {} has rank {}", i, order[i]);
        seen[static_cast<std::size_t>(order[i])] = true;
        if (order[i] == rank) place = static_cast<int>(i);
    }
    check(place >= 0, "mesh: rank {} is not in an order of {} ranks", rank, order.size());
    return place;
}

}  // namespace detail

PLAIT_INLINE MeshSizes parse_mesh(std::string_view text) {
    MeshSizes sizes;
    for (auto rest = text; !rest.empty();) {
        auto item = rest.substr(0, rest.find(','));
        rest.remove_prefix(std::min(rest.size(), item.size() + 1));
        auto equal = item.find('=');
        auto name = std::string(item.substr(0, equal));
        auto number = equal == std::string_view::npos ? "" : item.substr(equal + 1);
        int size = 0;
        auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), size);
        check<UsageError>(error == std::errc{} && end == number.data() + number.size() && size >= 1,
                          "mesh: \"{}\" is not an axis with its size: write it like data=2,tensor=2", item);
        check<UsageError>(detail::is_mesh_axis(name), "mesh: there is no axis {}: use {}", name,
                          detail::axis_names());
        check<UsageError>(sizes.emplace(name, size).second, "mesh: the axis {} stands there twice", name);
    }
    return sizes;
}

PLAIT_INLINE std::shared_ptr<Mesh::Data> Mesh::laid(MeshSizes const& sizes, int rank,
                                                    std::vector<int> order) {
    auto data = std::make_shared<Data>();
    data->axes = detail::laid_axes(sizes, detail::place_of(rank, order));
    data->rank = rank;
    data->order = std::move(order);
    return data;
}

PLAIT_INLINE Mesh::Mesh(MeshSizes const& sizes, int rank, std::vector<int> order) {
    auto data = laid(sizes, rank, std::move(order));
    for (auto const& a : data->axes)
        data->along.push_back(a.size == 1 ? std::make_unique<SelfCommunicator>(a.name) : nullptr);
    data_ = std::move(data);
}

PLAIT_INLINE Mesh::Mesh(Communicator& world, MeshSizes const& sizes, std::vector<int> order) {
    auto data = laid(sizes, world.rank(), std::move(order));
    data->world = &world;
    int product = 1;
    for (auto const& a : data->axes) product *= a.size;
    auto text = [&] {
        std::string list;
        for (auto const& a : data->axes)
            list += fmt::format("{}{}={}", list.empty() ? "" : ", ", a.name, a.size);
        return list;
    };
    check<UsageError>(product == world.size(), "mesh: {} has {} ranks, but the world has {}: make them equal",
                      text(), product, world.size());
    check(data->order.empty() || std::ssize(data->order) == product,
          "mesh: the order has {} ranks, the mesh {}", data->order.size(), product);
    int const place = detail::place_of(world.rank(), data->order);
    int inner = 1;
    std::vector<int> stride(data->axes.size());
    for (std::size_t i = data->axes.size(); i-- > 0;) stride[i] = inner, inner *= data->axes[i].size;
    for (std::size_t i = 0; i < data->axes.size(); ++i) {
        auto const& a = data->axes[i];
        if (a.size == 1) {
            data->along.push_back(std::make_unique<SelfCommunicator>(a.name));
        } else {
            // The ranks that differ in this coordinate alone.
            int color = place - a.coordinate * stride[i];
            data->along.push_back(world.split(color, a.coordinate, a.name));
        }
    }
    data_ = std::move(data);
}

PLAIT_INLINE MeshAxis const& Mesh::axis(std::string_view name) const {
    auto it = std::find_if(axes().begin(), axes().end(), [&](auto const& a) { return a.name == name; });
    check<UsageError>(it != axes().end(), "mesh: there is no axis {}: use {}", name, detail::axis_names());
    return *it;
}

PLAIT_INLINE int Mesh::ranks() const {
    int product = 1;
    for (auto const& a : axes()) product *= a.size;
    return product;
}

PLAIT_INLINE int Mesh::place() const {
    int place = 0;
    for (auto const& a : axes()) place = place * a.size + a.coordinate;
    return place;
}

PLAIT_INLINE Mesh Mesh::seen_by(int rank) const {
    MeshSizes sizes;
    for (auto const& a : axes()) sizes[a.name] = a.size;
    return Mesh(sizes, rank, data_->order);
}

PLAIT_INLINE Communicator* Mesh::along(std::string_view name) const {
    return data_->along[static_cast<std::size_t>(&axis(name) - axes().data())].get();
}

PLAIT_INLINE std::pair<std::int64_t, std::int64_t> Mesh::samples(std::int64_t count) const {
    auto const &replica = axis("replica"), &data = axis("data");
    std::int64_t blocks = replica.size * data.size, block = replica.coordinate * data.size + data.coordinate;
    check<UsageError>(count % blocks == 0,
                      "mesh: replica x data = {} does not divide the batch of {}: use a multiple of it",
                      blocks, count);
    return {count / blocks * block, count / blocks * (block + 1)};
}

PLAIT_INLINE std::vector<std::pair<std::string, TrafficRow>> Mesh::traffic() const {
    std::vector<std::pair<std::string, TrafficRow>> rows;
    for (std::size_t i = 0; i < axes().size(); ++i)
        if (auto const& c = data_->along[i])
            for (auto const& row : c->traffic()) rows.emplace_back(axes()[i].name, row);
    return rows;
}

PLAIT_INLINE void Mesh::reset_traffic() const {
    for (auto const& c : data_->along)
        if (c) c->reset_traffic();
}

PLAIT_INLINE std::string Mesh::text() const {
    std::string text;
    for (auto const& a : axes()) text += fmt::format("{}{}={}", text.empty() ? "" : ", ", a.name, a.size);
    return text;
}

}  // namespace plait
