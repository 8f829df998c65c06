/* A disk that goes bad and gets well again, for the files whose path contains "mail2crm.db": preloaded into the program
 * by the live tests. The first letter of the file that $BAD_DISK names says how it is now: `f` refuses to flush (EIO),
 * `r` refuses to write (EROFS, as after a remount of the kernel's own), `s` flushes slowly; no file: it is well. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static char state(int fd)
{
    char link[64], path[512], letter = 0;
    const char *name = getenv("BAD_DISK");
    FILE *file;
    ssize_t length;

    if (!name || !(file = fopen(name, "r")))
        return 0;
    if (fread(&letter, 1, 1, file) != 1)
        letter = 0;
    fclose(file);
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    length = readlink(link, path, sizeof path - 1);
    if (length < 0)
        return 0;
    path[length] = 0;
    return strstr(path, "mail2crm.db") ? letter : 0;
}

static int flush(const char *name, int fd)
{
    char now = state(fd);

    if (now == 'f') {
        errno = EIO;
        return -1;
    }
    if (now == 's')
        usleep(700 * 1000);
    return ((int (*)(int))dlsym(RTLD_NEXT, name))(fd);
}

int fsync(int fd) { return flush("fsync", fd); }
int fdatasync(int fd) { return flush("fdatasync", fd); }

static ssize_t put(const char *name, int fd, const void *bytes, size_t count, off64_t at)
{
    if (state(fd) == 'r') {
        errno = EROFS;
        return -1;
    }
    return ((ssize_t (*)(int, const void *, size_t, off64_t))dlsym(RTLD_NEXT, name))(fd, bytes, count, at);
}

ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t at) { return put("pwrite64", fd, bytes, count, at); }
ssize_t pwrite(int fd, const void *bytes, size_t count, off_t at) { return put("pwrite", fd, bytes, count, at); }
