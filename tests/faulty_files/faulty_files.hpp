#pragma once

extern "C" {
/// From now on the calls of a save are counted anew, and number `call` (0: none) fails with `error`, or is a
/// short write for -1; `lasts`: those after it too.
void faulty_files_set(long call, int error, bool lasts);
/// Calls since then.
long faulty_files_calls();
}
