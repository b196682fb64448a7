#include "plait/train/loss_watch-inl.hpp"
