"""A device that was given up in the middle of a callback, and its successor.

The input of the old device lies on a page that cannot be read: its callback stops exactly there, inside, until the handler
of the fault lets it go on, or ends its thread.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

RVCD = Path(__file__).parents[2] / "rvcd"
PROGRAM = r"""
#define _GNU_SOURCE
#include "_callback.h"
#include <errno.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

static sem_t is_inside, go_on;
static float *page;
static int dies;
static float played[64];

static void stopped_inside(int number)
{
    (void)number;
    sem_post(&is_inside);
    sem_wait(&go_on);
    if (dies)
        syscall(SYS_exit, 0); /* this thread alone, at once, as an asynchronous cancellation ends it */
    mprotect(page, 4096, PROT_READ | PROT_WRITE);
}

static void *old_device(void *context)
{
    return (void *)(intptr_t)rvcd_process(context, page, played, 64, 0);
}

#define CHECK(condition) do { if (!(condition)) { printf("line %d: %s\n", __LINE__, #condition); exit(1); } } while (0)

int main(int argc, char **argv)
{
    (void)argv;
    dies = argc > 1;
    struct sigaction action = {0};
    action.sa_handler = stopped_inside;
    sigaction(SIGSEGV, &action, NULL);
    sem_init(&is_inside, 0, 0);
    sem_init(&go_on, 0, 0);
    page = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    const size_t bytes = rvcd_segment_bytes(16384, 16384);
    rvcd_segment *segment = aligned_alloc(4096, (bytes + 4095) / 4096 * 4096);
    CHECK(rvcd_segment_create(segment, bytes, 48000, 16384, 16384) == RVCD_ATTACH_OK);
    rvcd_context *old = rvcd_context_new(segment, 1, 1);
    rvcd_context *successor = rvcd_context_new(segment, 1, 1);
    float silence[64] = {0};
    CHECK(rvcd_context_claim(old) == 0);

    pthread_t thread;
    pthread_create(&thread, NULL, old_device, old);
    sem_wait(&is_inside);
    /* It is inside, at 0..64. Nobody else may move the positions before it is out. */
    CHECK(rvcd_context_claim(successor) == EBUSY);
    CHECK(rvcd_process(successor, silence, played, 64, 0) != 0);
    CHECK(rvcd_process(old, silence, played, 64, 0) != 0);
    CHECK(rvcd_device_position(segment) == 0);
    sem_post(&go_on);
    void *result = NULL;
    pthread_join(thread, &result);
    CHECK(rvcd_device_position(segment) == (dies ? 0 : 64));

    CHECK(rvcd_context_claim(successor) == 0);
    const uint64_t before = rvcd_device_position(segment);
    CHECK(rvcd_process(successor, silence, played, 64, 0) == 0);
    CHECK(rvcd_process(old, silence, played, 64, 0) != 0);
    CHECK(rvcd_device_position(segment) == before + 64);
    rvcd_context_free(old);
    rvcd_context_free(successor);
    free(segment);
    return 0;
}
"""


@pytest.mark.parametrize("end", [[], ["dies"]], ids=["goes on", "its thread ends inside"])
def test_a_successor_waits_until_the_old_callback_is_out(tmp_path: Path, end: list[str]) -> None:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler")
    (tmp_path / "main.c").write_text(PROGRAM)
    sources = [str(tmp_path / "main.c"), str(RVCD / "audio/_callback.c"), str(RVCD / "ipc/_segment.c")]
    program = str(tmp_path / "main")
    subprocess.run(
        [compiler, "-O1", "-std=gnu11", f"-I{RVCD}/audio", f"-I{RVCD}/ipc", *sources, "-o", program, "-lm", "-lpthread"],
        check=True,
    )
    done = subprocess.run([program, *end], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "")
