// A file that is cut short while it is mapped must not end the process: reading a page that it no
// longer has raises SIGBUS. For ranges that are guarded the rest of the mapping becomes zeros and the
// read goes on; whoever reads there asks afterwards whether the file is whole. Anything else is left
// to whatever handled the signal before.
#pragma once

#include <atomic>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <mutex>

#include <sys/mman.h>
#include <unistd.h>

namespace guard {

struct Range {
    std::atomic<uintptr_t> begin{0}, end{0};  // end 0: free
};

constexpr int MOST = 1024;
static Range ranges[MOST];
static std::mutex writing;
static struct sigaction before;
static bool installed = false;

static void on_lost_page(int, siginfo_t *info, void *) {
    // Only what may be called in a handler: atomics and system calls.
    const uintptr_t at = reinterpret_cast<uintptr_t>(info->si_addr);
    for (Range &range : ranges) {
        const uintptr_t end = range.end.load();
        if (at < range.begin.load() || at >= end) continue;
        const uintptr_t page = at & ~(static_cast<uintptr_t>(sysconf(_SC_PAGESIZE)) - 1);
        void *zeros = mmap(reinterpret_cast<void *>(page), end - page, PROT_READ,
                           MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (zeros != MAP_FAILED) return;
    }
    sigaction(SIGBUS, &before, nullptr);  // the read is done again and meets it
}

// Whether there was room.
static bool add(const void *address, size_t bytes) {
    const std::lock_guard<std::mutex> lock(writing);
    if (!installed) {
        struct sigaction ours = {};
        ours.sa_sigaction = on_lost_page;
        ours.sa_flags = SA_SIGINFO | SA_ONSTACK;
        if (sigaction(SIGBUS, &ours, &before)) return false;
        installed = true;
    }
    for (Range &range : ranges) {
        if (range.end.load()) continue;
        range.begin = reinterpret_cast<uintptr_t>(address);
        range.end = range.begin + bytes;
        return true;
    }
    return false;
}

static void remove(const void *address) {
    const std::lock_guard<std::mutex> lock(writing);
    for (Range &range : ranges)
        if (range.end.load() && range.begin == reinterpret_cast<uintptr_t>(address)) range.end = 0;
}

}  // namespace guard
