/*
 * Copyright (C) nginx-ims contributors
 *
 * See mgr_user.h.
 */

#include <dirent.h>
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "mgr_user.h"


static bool mgr_user_empty(const char *path);
static int mgr_user_vacant(const struct sockaddr_un *sun, char *err,
    size_t errlen);


int
mgr_user_find(mgr_user_t *u, const char *user, const char *group, char *err,
    size_t errlen)
{
    struct group   *gr;
    struct passwd  *pw;

    memset(u, 0, sizeof(mgr_user_t));

    if (user == NULL && geteuid() != 0) {
        pw = getpwuid(geteuid());

    } else {
        user = user ? user : MGR_USER;
        pw = getpwnam(user);

        if (pw == NULL) {
            snprintf(err, errlen, "there is no user \"%s\": make it (adduser "
                     "--system --group %s), or name another with --user",
                     user, user);
            return -1;
        }
    }

    u->uid = pw ? pw->pw_uid : geteuid();
    u->gid = pw ? pw->pw_gid : getegid();

    if (pw != NULL) {
        snprintf(u->name, sizeof(u->name), "%s", pw->pw_name);
    }

    u->drop = u->uid != geteuid();

    if (u->drop && geteuid() != 0) {
        snprintf(err, errlen, "only root can run it as another user");
        return -1;
    }

    gr = getgrnam(group ? group : MGR_GROUP);

    if (gr != NULL) {
        u->gid = gr->gr_gid;
        u->has_gid = true;

    } else if (group != NULL) {
        snprintf(err, errlen, "there is no group \"%s\"", group);
        return -1;
    }

    /* the default group is taken by those who may: root and its members */

    if (group == NULL && u->has_gid && geteuid() != 0) {
        u->has_gid = group_member(u->gid);
    }

    return 0;
}


int
mgr_user_directory(const mgr_user_t *u, const char *path, mode_t mode,
    bool empty_too, char *err, size_t errlen)
{
    if (mkdir(path, mode) == -1) {

        if (errno != EEXIST) {
            snprintf(err, errlen, "cannot make \"%s\": %s", path,
                     strerror(errno));
            return -1;
        }

        if (!empty_too || !mgr_user_empty(path)) {
            return 0;
        }
    }

    if (u->drop && (chown(path, u->uid, u->gid) == -1
                    || chmod(path, mode) == -1))
    {
        snprintf(err, errlen, "cannot give \"%s\" to %s: %s", path, u->name,
                 strerror(errno));
        return -1;
    }

    return 0;
}


static bool
mgr_user_empty(const char *path)
{
    DIR            *dir;
    bool            empty;
    struct dirent  *de;

    dir = opendir(path);

    if (dir == NULL) {
        return false;
    }

    empty = true;

    while ((de = readdir(dir)) != NULL) {
        if (strcmp(de->d_name, ".") != 0 && strcmp(de->d_name, "..") != 0) {
            empty = false;
        }
    }

    closedir(dir);

    return empty;
}


int
mgr_user_become(const mgr_user_t *u, char *err, size_t errlen)
{
    if (!u->drop) {
        return 0;
    }

    if (initgroups(u->name, u->gid) == -1 || setgid(u->gid) == -1
        || setuid(u->uid) == -1 || setuid(0) != -1)
    {
        snprintf(err, errlen, "cannot become %s: %s", u->name,
                 strerror(errno));
        return -1;
    }

    return 0;
}


int
mgr_user_listen(const mgr_user_t *u, const char *path, char *err,
    size_t errlen)
{
    int                 fd, rc;
    mode_t              mask;
    struct sockaddr_un  sun;

    memset(&sun, 0, sizeof(sun));
    sun.sun_family = AF_UNIX;

    if (strlen(path) >= sizeof(sun.sun_path)) {
        snprintf(err, errlen, "the socket's path is longer than %zu bytes",
                 sizeof(sun.sun_path) - 1);
        return -1;
    }

    memcpy(sun.sun_path, path, strlen(path));

    if (mgr_user_vacant(&sun, err, errlen) != 0) {
        return -1;
    }

    fd = socket(AF_UNIX, SOCK_STREAM|SOCK_CLOEXEC|SOCK_NONBLOCK, 0);

    if (fd == -1) {
        snprintf(err, errlen, "socket() failed: %s", strerror(errno));
        return -1;
    }

    /* nobody comes in before owner and mode are right */

    mask = umask(0177);
    rc = bind(fd, (struct sockaddr *) &sun, sizeof(sun));
    umask(mask);

    if (rc == -1
        || (u->has_gid && chown(path, (uid_t) -1, u->gid) == -1)
        || chmod(path, 0660) == -1 || listen(fd, 511) == -1)
    {
        snprintf(err, errlen, "cannot listen on \"%s\": %s", path,
                 strerror(errno));
        close(fd);
        return -1;
    }

    return fd;
}


static int
mgr_user_vacant(const struct sockaddr_un *sun, char *err, size_t errlen)
{
    int          fd, rc;
    struct stat  st;

    if (lstat(sun->sun_path, &st) == -1) {
        return 0;
    }

    if (!S_ISSOCK(st.st_mode)) {
        snprintf(err, errlen, "\"%s\" is there and is no socket",
                 sun->sun_path);
        return -1;
    }

    fd = socket(AF_UNIX, SOCK_STREAM|SOCK_CLOEXEC|SOCK_NONBLOCK, 0);

    if (fd == -1) {
        snprintf(err, errlen, "socket() failed: %s", strerror(errno));
        return -1;
    }

    rc = connect(fd, (const struct sockaddr *) sun, sizeof(*sun));
    rc = rc == -1 ? errno : 0;

    close(fd);

    if (rc == ECONNREFUSED && unlink(sun->sun_path) == 0) {
        return 0;
    }

    if (rc == 0 || rc == EAGAIN) {
        snprintf(err, errlen, "somebody else listens on \"%s\"",
                 sun->sun_path);

    } else {
        snprintf(err, errlen, "cannot replace \"%s\": %s", sun->sun_path,
                 strerror(rc == ECONNREFUSED ? errno : rc));
    }

    return -1;
}
