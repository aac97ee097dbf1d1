/* Gives the program that it is loaded into another wall clock: the true one and as many seconds as the file JOBWIRE_CLOCK
   says. Asks the kernel itself, so that it works before the program's allocator does (libfaketime does not, with jemalloc). */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static long offset(void) {
  char text[32] = {0};
  const char *path = getenv("JOBWIRE_CLOCK");
  int file = path ? open(path, O_RDONLY) : -1;
  if (file < 0) return 0;
  long got = read(file, text, sizeof text - 1);
  close(file);
  return got > 0 ? atol(text) : 0;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
  long failed = syscall(SYS_clock_gettime, clock, now);
  if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec += offset();
  return (int)failed;
}

int gettimeofday(struct timeval *now, void *zone) {
  (void)zone;
  struct timespec real;
  if (clock_gettime(CLOCK_REALTIME, &real)) return -1;
  now->tv_sec = real.tv_sec;
  now->tv_usec = real.tv_nsec / 1000;
  return 0;
}

time_t time(time_t *at) {
  struct timespec real;
  clock_gettime(CLOCK_REALTIME, &real);
  if (at) *at = real.tv_sec;
  return real.tv_sec;
}
