#include "cuda/nccl.hpp"

#ifdef PLAIT_HAS_NCCL

#include "cuda/nccl_comm.hpp"

#include <cstdlib>
#include <mutex>

namespace plait::cuda {

namespace {

ncclDataType_t type_of(DType t) {
    switch (t) {
        case DType::f32:
            return ncclFloat32;
        case DType::bf16:
            return ncclBfloat16;
        case DType::f64:
            return ncclFloat64;
        case DType::i32:
            return ncclInt32;
        case DType::i64:
            return ncclInt64;
        case DType::u8:
            break;
    }
    return ncclUint8;
}
ncclRedOp_t op_of(Combine how) { return how == Combine::max ? ncclMax : ncclSum; }

std::size_t unsigned_of(std::int64_t n) { return static_cast<std::size_t>(n); }

/// Two ranks, of which the sender is 0; the sender makes the id.
class NcclLane final : public Lane {
  public:
    NcclLane(StreamWorld& world, std::string way, bool sends)
        : world_(world), way_(std::move(way)), sends_(sends), key_("nccl/" + way_) {
        if (!sends_) return;
        auto id = new_id();
        world_.board().put(key_, text_of(id));
        comm_ = std::make_unique<Comm>(world_, way_, id, 2, 0, message_blocks);
    }
    bool ready() override {
        if (!comm_) {
            auto id = world_.board().get(key_, 0);
            if (!id) return false;
            world_.board().erase(key_);
            auto joined = std::make_unique<Comm>(world_, way_, id_of(id->front()), 2, 1, message_blocks);
            std::lock_guard lock(mutex_);
            comm_ = std::move(joined);
        }
        return comm_->ready();
    }
    void send(Machine::Stream stream, std::byte const* data, std::int64_t bytes) override {
        comm_->finish("ncclSend", [&, on = native(stream)](ncclComm_t comm) {
            return ncclSend(data, unsigned_of(bytes), ncclUint8, 1, comm, on);
        });
    }
    void recv(Machine::Stream stream, std::byte* data, std::int64_t bytes) override {
        comm_->finish("ncclRecv", [&, on = native(stream)](ncclComm_t comm) {
            return ncclRecv(data, unsigned_of(bytes), ncclUint8, 0, comm, on);
        });
    }
    std::string error() override { return comm_ ? comm_->error() : ""; }
    void abort() noexcept override {
        std::lock_guard lock(mutex_);
        if (comm_) comm_->abort();
    }
    void leave() noexcept override {
        if (comm_) comm_->leave();
    }
    bool ended() noexcept override {
        std::lock_guard lock(mutex_);
        return !comm_ || comm_->ended();
    }

  private:
    cudaStream_t native(Machine::Stream stream) const {
        return static_cast<cudaStream_t>(world_.machine().native(stream));
    }

    StreamWorld& world_;
    std::string const way_;
    bool const sends_;
    std::string const key_;
    std::mutex mutex_;  // of what other threads see of comm_
    std::unique_ptr<Comm> comm_;
};

class NcclWire final : public Wire {
  public:
    /// A collective of its ranks, of which the first makes the id.
    NcclWire(StreamWorld& world, std::string context, int size, int rank)
        : world_(world), context_(std::move(context)), rank_(rank) {
        auto const key = "nccl/" + context_;
        auto overdue = [&] {
            world_.fail(
                CommunicationError(fmt::format("{}: not all of its {} ranks have joined NCCL after {:.3g} s",
                                               context_, size, world_.options().limit_seconds),
                                   {}, world_.rank()));
        };
        std::optional<std::vector<std::string>> id;
        if (rank == 0) {
            id = {text_of(new_id())};
            world_.board().put(key, id->front());
        } else {
            world_.wait([&] { return (id = world_.board().get(key, 0.05)).has_value(); }, overdue);
        }
        comm_ = std::make_unique<Comm>(world_, context_, id_of(id->front()), size, rank, collective_blocks);
        world_.wait([&] { return comm_->ready(); }, overdue);
        if (rank == 0) world_.board().erase(key);  // all are in
    }

    void all_reduce(Machine::Stream stream, std::byte const* in, std::byte* out, std::int64_t count,
                    DType dtype, Combine how) override {
        comm_->finish("ncclAllReduce", [&, on = native(stream)](ncclComm_t comm) {
            return ncclAllReduce(in, out, unsigned_of(count), type_of(dtype), op_of(how), comm, on);
        });
    }
    void reduce_scatter(Machine::Stream stream, std::byte const* in, std::byte* out, std::int64_t count,
                        DType dtype, Combine how) override {
        comm_->finish("ncclReduceScatter", [&, on = native(stream)](ncclComm_t comm) {
            return ncclReduceScatter(in, out, unsigned_of(count), type_of(dtype), op_of(how), comm, on);
        });
    }
    void all_gather(Machine::Stream stream, std::byte const* in, std::byte* out,
                    std::int64_t bytes) override {
        comm_->finish("ncclAllGather", [&, on = native(stream)](ncclComm_t comm) {
            return ncclAllGather(in, out, unsigned_of(bytes), ncclUint8, comm, on);
        });
    }
    void broadcast(Machine::Stream stream, std::byte* data, std::int64_t bytes, int root) override {
        comm_->finish("ncclBroadcast", [&, on = native(stream)](ncclComm_t comm) {
            return ncclBroadcast(data, data, unsigned_of(bytes), ncclUint8, root, comm, on);
        });
    }

    // A group begins nothing before it ends, so neither do its calls.
    void begin_group() override {
        comm_->finish("ncclGroupStart", [](ncclComm_t) { return ncclGroupStart(); });
    }
    void send(Machine::Stream stream, std::byte const* data, std::int64_t bytes, int to) override {
        comm_->begin("ncclSend", [&, on = native(stream)](ncclComm_t comm) {
            return ncclSend(data, unsigned_of(bytes), ncclUint8, to, comm, on);
        });
    }
    void recv(Machine::Stream stream, std::byte* data, std::int64_t bytes, int from) override {
        comm_->begin("ncclRecv", [&, on = native(stream)](ncclComm_t comm) {
            return ncclRecv(data, unsigned_of(bytes), ncclUint8, from, comm, on);
        });
    }
    void end_group() override {
        comm_->finish("ncclGroupEnd", [](ncclComm_t) { return ncclGroupEnd(); });
    }

    std::unique_ptr<Lane> lane(int peer, bool sends) override {
        auto way = fmt::format("{}/{}>{}", context_, sends ? rank_ : peer, sends ? peer : rank_);
        return std::make_unique<NcclLane>(world_, std::move(way), sends);
    }
    std::unique_ptr<Wire> part(std::vector<int> const& ranks, int rank, std::string const& context) override {
        return std::make_unique<NcclWire>(world_, context, static_cast<int>(ranks.size()), rank);
    }

    std::string error() override { return comm_->error(); }
    void abort() noexcept override { comm_->abort(); }
    void leave() noexcept override { comm_->leave(); }
    bool ended() noexcept override { return comm_->ended(); }

  private:
    cudaStream_t native(Machine::Stream stream) const {
        return static_cast<cudaStream_t>(world_.machine().native(stream));
    }

    StreamWorld& world_;
    std::string const context_;
    int const rank_;
    std::unique_ptr<Comm> comm_;
};

void set_unless_set(char const* name, std::string const& value) { ::setenv(name, value.c_str(), 0); }

/// NCCL refuses two ranks on one GPU, unless it takes them for two hosts. Before its first call.
void tell_shared_gpus_apart(StreamWorld& world) {
    int device = 0;
    char bus[64] = "";
    auto error = cudaGetDevice(&device);
    if (error == cudaSuccess) error = cudaDeviceGetPCIBusId(bus, sizeof bus, device);
    if (error != cudaSuccess) fail("no GPU for rank {}: {}", world.rank(), cudaGetErrorString(error));
    auto& board = world.board();
    auto const host = host_name(), gpu = fmt::format("gpus/{}/{}", host, bus);
    board.append(gpu, "");
    int const here = board.append("hosts/" + host, "");
    // Who completes a list says so; then each reads what it needs.
    if (here == world.size()) board.put("hosts/one", host);
    if (board.append("hosts", "") == world.size()) board.put("hosts/all", "");
    world.wait(
        [&] { return board.get("hosts/all", 0.05).has_value(); },
        [&] {
            world.fail(CommunicationError(fmt::format("world: not all of its {} ranks have joined after "
                                                      "{:.3g} s",
                                                      world.size(), world.options().limit_seconds),
                                          {}, world.rank()));
        });
    if (!board.get(gpu, 0, 2)) return;
    set_unless_set("NCCL_HOSTID", fmt::format("{}-{}", host, world.rank()));
    if (board.get("hosts/one", 0)) set_unless_set("NCCL_SOCKET_IFNAME", "lo");
}

}  // namespace

bool nccl_available() { return true; }

std::string nccl_version() {
    int version = 0;
    ncclGetVersion(&version);
    return fmt::format("{}.{}.{}", version / 10000, version / 100 % 100, version % 100);
}

std::unique_ptr<StreamCommunicator> join_nccl(std::shared_ptr<Machine> machine, Meeting meeting,
                                              StreamOptions options) {
    check<UsageError>(machine->native(Machine::kernels) != nullptr || meeting.place.size == 1,
                      "NCCL wants a GPU, not {}: run the ranks on threads or MPI", machine->description());
    auto world =
        std::make_shared<StreamWorld>(std::move(machine), meeting.place, options, std::move(meeting.server));
    std::unique_ptr<Wire> wire;
    if (world->size() > 1) {
        tell_shared_gpus_apart(*world);
        wire = std::make_unique<NcclWire>(*world, "w", world->size(), world->rank());
    }
    return std::make_unique<StreamCommunicator>(world, std::move(wire));
}

}  // namespace plait::cuda

#else

namespace plait::cuda {

bool nccl_available() { return false; }

std::string nccl_version() { return ""; }

std::unique_ptr<StreamCommunicator> join_nccl(std::shared_ptr<Machine>, Meeting, StreamOptions) {
    fail<UsageError>("this build has no NCCL: configure with PLAIT_CUDA=ON and PLAIT_NCCL=ON");
}

}  // namespace plait::cuda

#endif
