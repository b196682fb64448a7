// What takes a device and holds a run to it, as sources.cpp has the rest of the command.
#if defined(PLAIT_HAS_TOML) && defined(PLAIT_HAS_CLI11)
#include "../../src/tools/device.cpp"
#include "../../src/tools/model.cpp"
#endif
