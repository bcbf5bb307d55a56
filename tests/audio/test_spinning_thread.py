"""A device thread that covers itself against cancellation and goes round in circles, as PortAudio's ALSA thread can."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

RVCD = Path(__file__).parents[2] / "rvcd"
PROGRAM = r"""
#define _GNU_SOURCE
#include "_callback.h"
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static int cleaned_up;

static void clean_up(void *unused) { (void)unused; cleaned_up = 1; }

static void *device(void *context)
{
    FILE *nowhere = fopen("/dev/null", "w");
    float silence[16] = {0};
    pthread_cleanup_push(clean_up, NULL);
    rvcd_process(context, silence, silence, 16, 0);
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
    for (;;) {
        fprintf(nowhere, "again\n");
        fflush(nowhere);
    }
    pthread_cleanup_pop(1);
    return NULL;
}

static void wait_ms(long ms)
{
    struct timespec step = {0, ms * 1000000};
    nanosleep(&step, NULL);
}

int main(void)
{
    const size_t bytes = rvcd_segment_bytes(16384, 16384);
    void *memory = aligned_alloc(64, (bytes + 63) / 64 * 64);
    if (rvcd_segment_create(memory, bytes, 48000, 16384, 16384) != RVCD_ATTACH_OK)
        return 1;
    rvcd_context *context = rvcd_context_new(memory, 1, 1);
    rvcd_context_claim(context);
    if (rvcd_context_thread_ns(context) != 0 || rvcd_context_uncover_thread(context) == 0)
        return 2; /* there has been no callback yet */
    pthread_t thread;
    pthread_create(&thread, NULL, device, context);
    while (rvcd_context_thread_ns(context) < 20000000)
        wait_ms(5);
    pthread_cancel(thread);
    wait_ms(50);
    void *result = NULL;
    if (pthread_tryjoin_np(thread, &result) == 0)
        return 3; /* it should still be covered */
    if (rvcd_context_uncover_thread(context) != 0)
        return 4;
    pthread_join(thread, &result);
    return cleaned_up ? 0 : 5;
}
"""


def test_it_can_be_ended_once_it_is_uncovered(tmp_path: Path) -> None:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler")
    (tmp_path / "main.c").write_text(PROGRAM)
    sources = [str(tmp_path / "main.c"), str(RVCD / "audio/_callback.c"), str(RVCD / "ipc/_segment.c")]
    subprocess.run(
        [
            compiler,
            "-O1",
            "-std=gnu11",
            f"-I{RVCD}/audio",
            f"-I{RVCD}/ipc",
            *sources,
            "-o",
            str(tmp_path / "main"),
            "-lm",
            "-lpthread",
        ],
        check=True,
    )
    assert subprocess.run([tmp_path / "main"], timeout=120, check=False).returncode == 0
