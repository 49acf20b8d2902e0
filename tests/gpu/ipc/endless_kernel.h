// Compiled by nvcc. Threads: any.
#pragma once

// On the default stream of the current device.
void start_endless_kernel(void* word);
