#ifdef PLAIT_HAS_JSON

#include "plait/train/recording_files.hpp"

#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>

#include "plait/io/safetensors.hpp"

namespace plait {
namespace {

using Json = nlohmann::ordered_json;

constexpr char const* kinds[] = {"result", "parameter", "state"};

std::vector<std::int64_t> dims_of(Shape const& s) {
    std::vector<std::int64_t> dims;
    for (auto size : s) dims.push_back(size);
    return dims;
}
Shape shape_of(Json const& dims) {
    Shape s;
    for (auto const& size : dims) s.push_back(size.get<std::int64_t>());
    return s;
}

/// JSON has neither NaN nor infinities: null.
Json number(double x) { return std::isfinite(x) ? Json(x) : Json(); }
double number(Json const& j) { return j.is_null() ? std::nan("") : j.get<double>(); }

std::filesystem::path arrays_path(std::filesystem::path const& folder, std::int64_t step) {
    return folder / fmt::format("step-{:08}.safetensors", step);
}

RecordedValue value_of(Json const& j) {
    RecordedValue v{.step = j.at("step"), .name = j.at("name")};
    auto const kind = j.at("kind").get<std::string>();
    for (int k = 0; k < 3; ++k)
        if (kind == kinds[k]) v.kind = static_cast<RecordedValue::Kind>(k);
    v.meta = {parse_dtype(j.at("dtype").get<std::string>()), shape_of(j.at("shape"))};
    v.hash = std::stoull(j.at("hash").get<std::string>(), nullptr, 16);
    v.squares = number(j.at("squares")), v.largest = number(j.at("largest"));
    v.block = j.contains("block") ? shape_of(j.at("block")) : v.meta.shape;
    if (j.contains("origins"))
        for (auto const& o : j.at("origins"))
            v.origins.push_back(o.is_null() ? std::nullopt : std::optional(shape_of(o)));
    v.odd_rank = j.value("odd_rank", -1);
    return v;
}

}  // namespace

RecordingWriter::RecordingWriter(std::filesystem::path folder, Recording const& about)
    : folder_(std::move(folder)) {
    auto const path = folder_ / "recording.jsonl";
    std::error_code failed;
    std::filesystem::create_directories(folder_, failed);
    check<UsageError>(!failed, "cannot make the folder {}: {}", folder_.string(), failed.message());
    check<UsageError>(!std::filesystem::exists(path), "{} holds a recording already: use another folder",
                      folder_.string());
    out_.open(path);
    line(Json{{"format", 1},
              {"layout", about.layout},
              {"compute", std::string(name_of(about.compute))},
              {"bits", about.canonical ? "layout" : "fast"}}
             .dump());
}

void RecordingWriter::line(std::string const& text) {
    out_ << text << "\n" << std::flush;
    check(out_.good(), "cannot write {}", (folder_ / "recording.jsonl").string());
}

void RecordingWriter::write(std::vector<RecordedValue> const& values) {
    std::vector<NamedArray> arrays;
    for (auto const& v : values) {
        Json j{{"step", v.step},
               {"name", v.name},
               {"kind", kinds[static_cast<std::size_t>(v.kind)]},
               {"dtype", std::string(name_of(v.meta.dtype))},
               {"shape", dims_of(v.meta.shape)},
               {"hash", fmt::format("{:016x}", v.hash)},
               {"squares", number(v.squares)},
               {"largest", number(v.largest)}};
        if (!v.origins.empty()) {
            j["block"] = dims_of(v.block);
            for (auto const& o : v.origins) j["origins"].push_back(o ? Json(dims_of(*o)) : Json());
        }
        if (v.odd_rank >= 0) j["odd_rank"] = v.odd_rank;
        line(j.dump());
        if (v.array) arrays.push_back({v.name, v.meta, v.array.bytes()});
    }
    if (!arrays.empty()) write_safetensors(arrays_path(folder_, values.front().step), arrays);
}

Recording read_recording(std::filesystem::path const& folder) {
    auto const path = folder / "recording.jsonl";
    std::ifstream in(path);
    check<UsageError>(in.good(), "{} holds no recording: there is no {}; plait train --record writes one",
                      folder.string(), path.string());
    Recording r;
    std::int64_t number = 0;
    std::map<std::int64_t, std::optional<SafetensorsFile>> files;
    for (std::string text; std::getline(in, text);) {
        ++number;
        try {
            auto const j = Json::parse(text);
            if (number == 1) {
                r.layout = j.at("layout");
                r.compute = parse_dtype(j.at("compute").get<std::string>());
                r.canonical = j.at("bits") == "layout";
                continue;
            }
            r.values.push_back(value_of(j));
        } catch (std::exception const& e) {
            fail<UsageError>("{}: line {} is no row of a recording: {}", path.string(), number, e.what());
        }
        auto& v = r.values.back();
        auto [it, fresh] = files.try_emplace(v.step);
        auto const arrays = arrays_path(folder, v.step);
        if (fresh && std::filesystem::exists(arrays)) it->second.emplace(arrays);
        if (!it->second) continue;
        auto const& entry = it->second->at(v.name);
        check<UsageError>(entry.meta == v.meta, "{}: '{}' is {}, not {}", arrays.string(), v.name,
                          to_string(entry.meta), to_string(v.meta));
        v.array = Array(v.meta);
        std::copy(entry.bytes.begin(), entry.bytes.end(), v.array.bytes().begin());
    }
    check<UsageError>(number > 0, "{} is empty: the run ended before its first step", path.string());
    return r;
}

}  // namespace plait

#endif
