#!/usr/bin/perl

# Tests for reports of the edge to the pool manager: a core that grants more
# than was asked for lengthens the identity's rest; nobody waits for it.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); push @INC, 'lib'; }

use Ims;
use ImsClient;
use ImsCore;
use ImsSip;
use ImsWs;
use Test::Nginx;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http/)->has_daemon('openssl')->plan(9);

ims_keys($t);

my $pid = ims_pool($t, size => 3);

$t->write_file_expand('nginx.conf', ims_conf($t));
$t->run();

###############################################################################

my $core = ImsCore->new(port(8060));
my $c = ImsClient->new(user => 'alice');

my $before = rest($t, $c);

$c->registered($core, expires => 300);
is(rest($t, $c), $before, 'as asked: no report');

# two hours where five minutes were asked for

granted($c, $core, 7200);

ok(ims_wait(5, sub { rest($t, $c) > $before + 5000 * 1000 }), 'reported');
ok(rest($t, $c) < $before + 7200 * 1000, 'as much as was granted');
is(ims_count_log($t, qr/\[alert\].*the core granted 7200 s where 300 were/),
    1, 'and told');

# the pool manager is away: the report is lost, nothing waits

ims_kill($pid, 'KILL');

my $answer = granted($c, $core, 10800);

is($answer->{status}, 200, 'without it the client is answered');
ok($c->alive(), 'and served');

$pid = ims_pool_start($t);

ok(rest($t, $c) < $before + 7300 * 1000, 'lost');

granted($c, $core, 10800);

ok(ims_wait(5, sub {
    granted($c, $core, 10800);
    rest($t, $c) > $before + 9000 * 1000;
}), 'the next one comes');

is(ims_count_log($t, qr/\[warn\].*refused a report/), 0, 'and is taken');

# these alerts were meant

my $log = $t->read_file('error.log');

$log =~ s/^.*\[alert\].*the core granted.*\n//mg;
$t->write_file('error.log', $log);

###############################################################################

# registers; the core grants more than was asked for

sub granted {
    my ($c, $core, $seconds) = @_;

    $c->send($c->{ua}->register(expires => 300));

    my ($m, $link) = $core->request() or die "no REGISTER at the core\n";
    my $contact = sip_header($m, 'Contact') =~ s/expires=\d+/expires=$seconds/r;

    $core->reply($link, $m, 200, 'OK', contact => $contact);

    return $c->answer();
}


# until when the identity rests, pool time in ms

sub rest {
    my ($t, $c) = @_;

    my ($status, $j) = ims_poolctl($t, '--json', 'show', $c->{id}{impu});

    return ref $j ? $j->{rest} // $j->{identities}[0]{rest} : 0;
}

###############################################################################
