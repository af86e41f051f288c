# What Kaggle gives a notebook, in a root of its own: inputs that cannot be written, an empty working folder, no network but loopback.
# Run by `unshare --mount --net` with: an empty folder, the working folder's size, a file with "source<TAB>place" a line, the command.
set -eu
root=$1 size=$2 inputs=$3
shift 3
ip link set lo up
mount --make-rprivate /
mount -t tmpfs tmpfs "$root"
for entry in /*; do
    if [ "$entry" = /kaggle ]; then
        continue
    elif [ -L "$entry" ]; then
        cp -P "$entry" "$root$entry"
    elif [ -d "$entry" ]; then
        mkdir "$root$entry"
        mount --rbind "$entry" "$root$entry"
    else
        touch "$root$entry"
        mount --bind "$entry" "$root$entry"
    fi
done
mkdir -p "$root/kaggle/input" "$root/kaggle/working"
mount -t tmpfs -o "size=$size" tmpfs "$root/kaggle/working"
mount -t tmpfs tmpfs "$root/kaggle/input"
while IFS='	' read -r source place; do
    mkdir -p "$root/kaggle/input/$place"
    mount --bind "$source" "$root/kaggle/input/$place"
    mount -o remount,bind,ro "$root/kaggle/input/$place"
done <"$inputs"
mount -o remount,ro "$root/kaggle/input"
exec chroot "$root" env --chdir=/kaggle/working "$@"
