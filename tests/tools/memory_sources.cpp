// What holds a run to the memory of a machine, as sources.cpp has the rest of the command.
#if defined(PLAIT_HAS_TOML) && defined(PLAIT_HAS_CLI11)
#include "../../src/tools/memory_check.cpp"
#endif
