#!/usr/bin/perl

# The pool manager is changed for another one under load: SIGUSR2, and a
# restart with a socket that stays (init's). Clients connect again, what was
# told is there, flows do not notice, and HTTP clients get 200 or 503 with
# Retry-After.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); push @INC, 'lib'; }

use File::Copy qw/ copy /;
use IO::Select;
use IO::Socket::UNIX;
use JSON::PP;
use MIME::Base64 qw/ encode_base64 /;
use POSIX qw/ :sys_wait_h /;
use Socket qw/ SOCK_STREAM /;
use Time::HiRes qw/ time sleep /;

use Ims;
use ImsClient;
use ImsCore;
use ImsPool;
use Test::Nginx qw/ :DEFAULT http_start /;

use constant { ROUNDS => 6, LOAD => 40 };

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http/)->has_daemon('openssl')
    ->plan(6 * ROUNDS + 36);

my $dir = $t->testdir();
my $socket = "$dir/pool.sock";
my $program = "$dir/ims-poolmgr";
my @options = ('--dir', "$dir/pool", '--socket', $socket,
    '--secrets', "$dir/secrets", '--volatile',
    $> == 0 ? qw/ --user root --group root / : ());

ims_keys($t);
install();
my $pid = started();
ims_poolctl($t, 'pool', 'create', 'web', 'ims.example');
ims_poolctl($t, 'import', 'web', '--range', 'sip:web-[0001-2000]@ims.example');

$t->write_file_expand('nginx.conf',
    ims_conf($t, workers => 2, lease_check => '200ms', grace => '60s'));
$t->run();

###############################################################################

my $core = ImsCore->new(port(8060));
my @flows = map { ImsClient->new() } 1 .. 6;
$_->registered($core) for @flows;

my %told;               # user => lease
my $users = 0;
my $busy = 0;

# --- SIGUSR2

for my $round (1 .. ROUNDS) {
    my $old = inode("/proc/$pid/exe");
    my $incarnation = info('incarnation');
    install() if $round % 2;

    # commands are on their way, a client has a connection and keeps it

    my $kept = connected();
    is($kept->cmd('PING'), '+PONG', "$round: a connection");
    my @asked = map { ask('load' . ++$users) } 1 .. LOAD / 2;
    kill 'USR2', $pid;
    push @asked, map { ask('load' . ++$users) } 1 .. LOAD / 2;

    my @wrong = grep { $_ } map { judge($_) } @asked;
    push @wrong, grep { !$_->alive() } @flows;
    is("@wrong", '', '200, or 503 with Retry-After; flows are served');

    ok(ims_wait(8, sub {
        (info('incarnation') // 0) > $incarnation
    }), 'another one is there') or diag($t->read_file('pool.log'));
    ok(kill(0, $pid), 'as the same process');
    ok($kept->closed(5), 'the connection was closed');

    is(inode("/proc/$pid/exe") ne $old ? 1 : 0, $round % 2, $round % 2 ? 'the new program'
                                                    : 'the same program');
}

cmp_ok(scalar keys %told, '>', ROUNDS * LOAD / 2, 'most are served')
    or diag("$busy got 503");
diag(scalar(keys %told) . " told, $busy got 503");

# a client that only asks does not notice

my $c = connected();
$c->send('PING');
is($c->recv(), '+PONG', 'a connection');
my $list = fork() // die;
if ($list == 0) {
    open STDOUT, '>', "$dir/list";
    exec ims_program('ims-poolctl'), '-s', $socket, 'list', 'web', '--json'
        or POSIX::_exit(127);
}
kill 'USR2', $pid;
waitpid $list, 0;
is($?, 0, 'ims-poolctl list goes on');
is(scalar @{decode_json($t->read_file('list'))}, 2000, 'to the end');
ok($c->closed(5), 'while connections are closed');

# programs that would not start: the one that runs goes on

my $incarnation = info('incarnation');

ok(!(grep { !$_->alive() } @flows), 'flows are served');

for my $bad (['exits', sub { script("#!/bin/sh\nexit 1\n") }],
             ['is no program', sub { script("\0\0\0\0") }],
             ['is not there', sub { unlink $program }])
{
    my $n = ims_count_log($t, qr/going on as before/, 'pool.log');
    $bad->[1]->();
    kill 'USR2', $pid;
    ok(ims_wait(5, sub {
        ims_count_log($t, qr/going on as before/, 'pool.log') > $n
    }), "a program that $bad->[0]: said");
    is(ims_identity(user => "bad $bad->[0]")->{status}, 200, 'goes on');
}

install();

# nor in the middle of an import

my $import = connected();
my $no = $import->cmd('IMPORT', 'BEGIN', 'web');
my $lines = ims_count_log($t, qr/no other program while an import/, 'pool.log');
kill 'USR2', $pid;
ok(ims_wait(5, sub {
    ims_count_log($t, qr/no other program while an import/, 'pool.log')
        > $lines
}), 'an import is under way: said');
is($import->cmd('IMPORT', 'ABORT', $no), 0, 'it goes on');

chmod 0644, "$dir/secrets/wwsf.secret";
my $n = ims_count_log($t, qr/going on as before/, 'pool.log');
kill 'USR2', $pid;
ok(ims_wait(5, sub {
    ims_count_log($t, qr/going on as before/, 'pool.log') > $n
}), 'secrets that it would not take: said');
is(info('incarnation'), $incarnation, 'still the same');
chmod 0600, "$dir/secrets/wwsf.secret";

# stopped in the usual way: its socket goes with it

ims_kill($pid, 'TERM');
ok(!-e $socket, 'its own socket goes with it');

# --- a socket that init holds

my $listen = IO::Socket::UNIX->new(Type => SOCK_STREAM, Local => $socket,
    Listen => 128) or die "listen: $!";

$pid = handed();
ok(ims_wait(10, sub { info('incarnation') }), 'it takes the socket');

for my $signal ('TERM', 'KILL', 'USR2') {
    my $incarnation = info('incarnation');
    my @asked = map { ask('load' . ++$users) } 1 .. LOAD / 2;

    kill $signal, $pid;
    push @asked, map { ask('load' . ++$users) } 1 .. LOAD / 2;

    if ($signal ne 'USR2') {
        ok(ims_wait(10, sub { waitpid($pid, WNOHANG) == $pid }),
            "$signal: gone");
        ok(-e $socket, 'the socket stays');
        push @asked, map { ask('load' . ++$users) } 1 .. LOAD / 4;
        $pid = handed();
    }

    my @wrong = grep { $_ } map { judge($_) } @asked;
    push @wrong, grep { !$_->alive() } @flows;
    is("@wrong", '', "$signal: 200, or 503 with Retry-After");
    ok(ims_wait(10, sub { (info('incarnation') // 0) > $incarnation }),
        "$signal: another one is there");
}

# who came while there was none had only to wait

my @waited = map { ask("patient$_") } 1 .. 4;
is(scalar(grep { judge($_) } @waited), 0, 'served');

# --- nothing that was told is lost

is(join(' ', map { (($_->registered($core))[2] // {})->{status} // 0 }
         @flows), join(' ', (200) x @flows), 'all flows went through it');

my @lost = grep {
    my ($status, $r) = ims_poolctl($t, 'show', $told{$_}, '--json');
    $status != 0 || $r->{state} ne 'leased' || $r->{lease} ne $told{$_}
} sort keys %told;
is("@lost", '', scalar(keys %told) . ' leases told are there');

my %seen;
is_deeply([grep { $seen{$_}++ } values %told], [], 'once each');
is((ims_poolctl($t, 'check'))[0], 0, 'the database is whole');
is(ims_count_log($t, qr/\[(?:alert|emerg)\]/), 0, 'no alert');

# another socket than the one that was meant

ims_kill($pid, 'TERM');
my $other = IO::Socket::UNIX->new(Type => SOCK_STREAM, Local => "$dir/other",
    Listen => 1) or die "listen: $!";
$pid = handed($other);
waitpid $pid, 0;
is($? >> 8, 1, 'another socket is refused');
like($t->read_file('pool.log'), qr/handed over is not "\Q$socket\E"/,
    'said so');

###############################################################################

# a new file under the old name

sub install {
    copy(ims_program('ims-poolmgr'), "$program.new") or die $!;
    chmod 0755, "$program.new";
    rename "$program.new", $program or die $!;
}


sub script {
    my ($text) = @_;

    open my $f, '>', "$program.new" or die $!;
    print $f $text;
    close $f;
    chmod 0755, "$program.new";
    rename "$program.new", $program or die $!;
}


sub started {
    my $pid = ims_spawn($t, 'pool.log', $program, @options);

    ims_wait(10, sub { info('incarnation') })
        or die "it did not start:\n" . $t->read_file('pool.log');

    return $pid;
}


# as init does it

sub handed {
    my ($s) = @_;

    my $fd = fileno($s // $listen);
    my $pid = fork() // die;

    if ($pid == 0) {
        open STDERR, '>>', "$dir/pool.log";
        open STDOUT, '>&', \*STDERR;

        $^F = 3;
        $fd == 3 ? fcntl($s // $listen, 2, 0) : POSIX::dup2($fd, 3);
        $ENV{LISTEN_PID} = $$;
        $ENV{LISTEN_FDS} = 1;
        exec $program, @options or POSIX::_exit(127);
    }

    return $pid;
}


sub inode { return (stat $_[0])[1] // 0; }


sub info {
    my ($name) = @_;

    my ($status, $r) = ims_poolctl($t, 'info', '--json');

    return $status == 0 ? $r->{$name} : undef;
}


sub connected {
    my $s = IO::Socket::UNIX->new(Peer => $socket) or die $!;

    return bless { s => $s, buf => '', sel => IO::Select->new($s) },
        'ImsPool::Conn';
}


# a request for an identity, sent and not read

sub ask {
    my ($user) = @_;

    my $s = http_start("POST /ims/identity HTTP/1.0\r\nHost: localhost\r\n"
        . "Origin: http://localhost\r\nContent-Length: 0\r\n"
        . 'Authorization: Basic ' . encode_base64("$user:", '')
        . "\r\n\r\n");

    return { user => $user, s => $s };
}


# what is wrong with the answer; leases are written down

sub judge {
    my ($a) = @_;

    my $text = '';
    my $end = time() + 12;

    while (IO::Select->new($a->{s})->can_read($end - time())) {
        sysread $a->{s}, $text, 65536, length $text or last;
    }

    my ($head, $body) = split /\r\n\r\n/, $text, 2;
    my $status = $text =~ m{^HTTP/1\.\d (\d+)} ? $1 : 0;

    if ($status == 200) {
        $told{$a->{user}} = decode_json($body)->{lease};
        return;
    }

    $busy++;

    return if $status == 503 && $head =~ /^Retry-After: \d+\r?$/mi;

    return "$a->{user}: $status";
}

###############################################################################

END {
    local $?;
    kill 'TERM', $pid if $pid && waitpid($pid, WNOHANG) == 0;
}
