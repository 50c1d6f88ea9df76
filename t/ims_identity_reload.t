#!/usr/bin/perl

# Tests for ims_identity over a reload: a worker that leaves serves what it
# has begun, and its connection to the pool manager does not keep it; many
# requests at a time; ims_status.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); push @INC, 'lib'; }

use IO::Select;
use JSON::PP;
use Time::HiRes qw/ sleep time /;

use Ims;
use Test::Nginx;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http/)->has_daemon('openssl')->plan(26);

ims_keys($t);

my $pid = ims_pool($t, size => 250);

$t->write_file_expand('nginx.conf', ims_conf($t, workers => 2));
$t->run();

###############################################################################

# as many as there are, at once: nobody gets another's

my %name = map { $_ => ask("user$_") } 1 .. 200;
my (%given, %other);

for my $i (sort keys %name) {
    my $r = answer($name{$i});
    my $j = eval { decode_json($r =~ s/.*\r\n\r\n//sr) } // {};

    $given{$j->{impu} // 'none'}++;
    $other{$i} = $j->{impu};
}

is(keys %given, 200, 'two hundred users, two hundred identities');

my @again = grep {
    my $i = $_;
    ims_identity(user => "user$i")->{json}{impu} ne $other{$i};
} 1 .. 40;

is("@again", '', 'each the same again');

# idle connections do not keep a worker

$t->reload();

ok(ims_wait_log($t, qr/exited with code 0/, count => 2), 'idle, left');
is(ims_identity(user => 'alice')->{status}, 200, 'the new ones serve');

# one that waits does, and is served

kill 'STOP', $pid;

my @wait = map { ask("wait$_") } 1 .. 10;

sleep 0.3;
$t->reload();
sleep 0.5;
kill 'CONT', $pid;

like(answer($_), qr/ 200 OK/, 'asked before, answered after the reload')
    for @wait;

ok(ims_wait_log($t, qr/exited with code 0/, count => 4), 'then left');
is(ims_identity(user => 'alice')->{status}, 200, 'the new ones serve');

# one whose answer does not come leaves with its refusal

kill 'STOP', $pid;

my $s = ask('alice');

sleep 0.3;
$t->reload();

like(answer($s), qr/ 503 .*"unavailable"/s, 'no answer, refused');
ok(ims_wait_log($t, qr/exited with code 0/, count => 6), 'and left');

kill 'CONT', $pid;

is(ims_identity(user => 'alice')->{status}, 200, 'the new ones serve');

# status

my $j = ims_status();

ok($j->{counters}{identity_given} > 240, 'counted over workers and reloads');
ok(ims_wait(5, sub { ims_status()->{workers} == 2 }), 'workers');
is($j->{pool_readable}, 1, 'pool readable');
is($j->{flows}, 0, 'flows');

my $text = http_get('/ims/status?format=prometheus');

like($text, qr!^Content-Type: text/plain; version=0\.0\.4\r?$!mi, 'type');
like($text, qr/^# TYPE nginx_ims_identity_given_total counter\n(?#
    )nginx_ims_identity_given_total $j->{counters}{identity_given}$/m,
    'counter');

my @names = $text =~ /^(nginx_ims_\w+) \d+$/mg;

is(@names, (keys %$j) - 1 + keys %{$j->{counters}}, 'all of them');

###############################################################################

sub ask {
    my ($user) = @_;

    require MIME::Base64;

    return http("POST /ims/identity HTTP/1.0\r\nHost: localhost\r\n"
        . "Origin: http://localhost\r\nAuthorization: Basic "
        . MIME::Base64::encode_base64("$user:", '') . "\r\n\r\n", start => 1);
}


sub answer {
    my ($s) = @_;

    my $all = '';
    my $sel = IO::Select->new($s);

    while ($sel->can_read(8)) {
        sysread $s, my $bytes, 65536 or last;
        $all .= $bytes;
    }

    return $all;
}

###############################################################################
