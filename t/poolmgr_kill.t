#!/usr/bin/perl

# Tests for a pool manager that is killed in the middle of a load, and comes
# back: who was told of an identity keeps it, flows do not notice, and new
# identities are refused until then.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); push @INC, 'lib'; }

use IO::Select;
use JSON::PP;
use MIME::Base64 qw/ encode_base64 /;
use Time::HiRes qw/ time sleep /;

use Ims;
use ImsClient;
use ImsCore;
use ImsSip;
use Test::Nginx qw/ :DEFAULT http_start /;

use constant { ROUNDS => 4, LOAD => 60 };

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http/)->has_daemon('openssl')
    ->plan(8 * ROUNDS + 14);

ims_keys($t);
my $pid = ims_pool($t, size => 600);

$t->write_file_expand('nginx.conf',
    ims_conf($t, workers => 2, lease_check => '200ms', grace => '60s'));
$t->run();

###############################################################################

my $core = ImsCore->new(port(8060));
my @flows = map { ImsClient->new() } 1 .. 10;
$_->registered($core) for @flows;

# an identity in hand, and not registered yet

my $late = ImsClient->new(ws => undef);

my %told;               # user => lease
my $users = 0;

for my $round (1 .. ROUNDS) {

    # half of the load is there, some of it answered, when it is killed

    my @asked = map { ask('load' . ++$users) } 1 .. LOAD / 2;
    IO::Select->new($asked[$round]{s})->can_read(5);
    kill 'KILL', $pid;
    push @asked, map { ask('load' . ++$users) } 1 .. LOAD / 2;

    my $start = time();
    my %status;
    my @wrong;

    for my $a (@asked) {
        my $reply = answer_of($a);
        $status{$reply->{status}}++;

        if ($reply->{status} == 200) {
            $told{$a->{user}} = $reply->{json}{lease};

        } elsif ($reply->{status} != 503
                 || $reply->{headers} !~ /^Retry-After: \d+\r?$/mi)
        {
            push @wrong, $reply->{status};
        }
    }

    ims_kill($pid, 'KILL');

    is("@wrong", '', "round $round: 200, or 503 with Retry-After");
    cmp_ok($status{503} // 0, '>=', LOAD / 2 - 1, 'killed in the middle');
    cmp_ok(time() - $start, '<', 20, 'nobody waits for long');

    # flows go on as if nothing had been

    is(join(' ', map { (($_->registered($core))[2] // {})->{status} // 0 }
             @flows), join(' ', (200) x @flows), 'flows are refreshed');

    my @took;
    my %said;
    for (1 .. 3) {
        my $before = time();
        $said{ims_identity(user => "away$round")->{status}}++;
        push @took, time() - $before;
    }
    is_deeply(\%said, { 503 => 3 }, 'identity: 503');
    cmp_ok((sort { $a <=> $b } @took)[0], '<', 1, 'at once');

    if ($round == 1) {
        $late->connect();
        is((($late->registered($core))[2] // {})->{status}, 200,
            'an identity in hand registers');
        $late->{ws}->drop();
        $late->connect();
        is((($late->registered($core))[2] // {})->{status}, 200,
            'and is taken over');
    }

    # back

    $pid = ims_pool_start($t);
    ok(ims_wait(8, sub {
        ims_identity(user => "back$round")->{status} == 200
    }), 'back by itself');

    # who was told has it still; either worker connects in its own time

    my @lost = grep { lease_of($_) ne $told{$_} }
        (sort keys %told)[map { int rand keys %told } 1 .. 5];
    is("@lost", '', 'whoever was told has it still');
}

diag(scalar(keys %told), ' told of ', $users);
cmp_ok(scalar(keys %told), '>=', ROUNDS, 'some of the load was served');

# each of them, once, against the database

my %holder;
my @wrong;

for my $user (sort keys %told) {
    my ($status, $r) = ims_poolctl($t, 'show', $told{$user}, '--json');

    push @wrong, "$user: $status"
        unless $status == 0 && ($r->{lease} // '') eq $told{$user}
               && !$holder{$told{$user}}++;
}
is("@wrong", '', 'leases told are there, and have one holder each');

my ($status, $out) = ims_poolctl($t, 'check', '--text');
is($status, 0, 'the database is whole') or diag($out);

# what ends now is heard of by flows from before

ims_poolctl($t, 'revoke', 'lease', $flows[0]{id}{lease});
is(($flows[0]{ws}->closed(2))[0], 1008, 'revoked: closed');
my ($m, $link) = $core->request();
is($m && sip_header($m, 'Contact'),
    '<' . $flows[0]{ua}->contact() . '>;expires=0', 'and taken back');
$core->reply($link, $m, 200, 'OK', contact => '') if $m;

# revoked, and killed before anybody could look: durable, so it is seen

kill 'STOP', workers($t);
ims_poolctl($t, 'revoke', 'lease', $flows[1]{id}{lease});
ims_kill($pid, 'KILL');
kill 'CONT', workers($t);
is(($flows[1]{ws}->closed(3))[0], 1008, 'revoked and killed: closed');
($m, $link) = $core->request();
is($m && sip_header($m, 'Contact'),
    '<' . $flows[1]{ua}->contact() . '>;expires=0', 'and taken back');
$core->reply($link, $m, 200, 'OK', contact => '') if $m;

# a registration goes on and ends while it is away

is(($flows[2]->registered($core, expires => 0))[2]{status}, 200,
    'de-registered while it is away');
is(($flows[2]->registered($core))[2]{status}, 200, 'and registered');

# the log has a line when it went and one when it came, not one a request

my $lines = ims_count_log($t, qr/\[error\].* pool manager at \S+ is away/);
cmp_ok($lines, '<=', 4 * (ROUNDS + 1), 'a line a worker and role each time');
cmp_ok($lines, '>=', ROUNDS, 'but these');
is(ims_count_log($t, qr/\[(?:alert|emerg)\]/), 0, 'no alert');

###############################################################################

# a request for an identity, sent and not read

sub ask {
    my ($user) = @_;

    my $s = http_start("POST /ims/identity HTTP/1.0\r\nHost: localhost\r\n"
        . "Origin: http://localhost\r\nContent-Length: 0\r\n"
        . 'Authorization: Basic ' . encode_base64("$user:", '')
        . "\r\n\r\n");

    return { user => $user, s => $s };
}


sub answer_of {
    my ($a) = @_;

    my $text = '';
    my $end = time() + 8;

    while (IO::Select->new($a->{s})->can_read($end - time())) {
        sysread $a->{s}, $text, 65536, length $text or last;
    }

    my ($head, $body) = split /\r\n\r\n/, $text, 2;

    return { status => $text =~ m{^HTTP/1\.\d (\d+)} ? $1 : 0,
             headers => $head // '', json => eval { decode_json($body) } };
}


# the lease that a user is told of, as soon as he is told of any

sub lease_of {
    my ($user) = @_;

    my $reply;

    ims_wait(8, sub { ($reply = ims_identity(user => $user))->{status} == 200 })
        or return "status $reply->{status}";

    return $reply->{json}{lease};
}


sub workers {
    my ($t) = @_;

    my $master = $t->read_file('nginx.pid') + 0;
    my @pids;

    for my $dir (glob "/proc/[0-9]*") {
        open my $f, '<', "$dir/stat" or next;
        my ($pid, $state, $ppid) = <$f> =~ /^(\d+) \(.*\) (\S) (\d+)/s;
        push @pids, $pid if $ppid == $master && $state ne 'Z';
    }

    return @pids;
}

###############################################################################
