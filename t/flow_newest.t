#!/usr/bin/perl

# Tests for two flows of one Contact without an instance-id: the edge takes a
# Contact back for the newest of them only, whichever answer comes last.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); push @INC, 'lib'; }

use Ims;
use ImsClient;
use ImsCore;
use ImsSip;
use Test::Nginx;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http/)->has_daemon('openssl')->plan(9);

ims_keys($t);
ims_pool($t);

$t->write_file_expand('nginx.conf',
    ims_conf($t, lease_check => '200ms', grace => '500ms'));
$t->run();

###############################################################################

my $core = ImsCore->new(port(8060));

# the first flow's answer is late; by then the second flow has registered

my $c = ImsClient->new(ua => { instance => '' });
my $old = $c->{ws};

$c->send($c->{ua}->register());
my ($late, $way) = $core->request();

$c->connect();
my ($m) = $c->registered($core);

isnt(sip_header($m, 'Path'), sip_header($late, 'Path'), 'two flows');
is(contact($m), contact($late), 'of one Contact');

$core->reply($way, $late, 200, 'OK');
is(sip_parse($old->recv(5))->{status}, 200, 'the first one registers, too');

# the first one is lost: what the second has registered stays

$old->drop();

ok(ims_wait(10, sub { ims_status()->{counters}{flow_lost} == 1 }),
    'the first flow is lost');
ok(ims_wait(10, sub { ims_status()->{flows} == 1 }),
    'and swept when its grace is over');
ok($core->silent(1), 'the Contact is not taken back');
ok($c->alive(), 'the second flow lives');

# the second one is lost

$c->{ws}->drop();

my ($back, $link) = $core->request(10);

is($back && sip_header($back, 'Expires'), 0, 'the second lost: taken back');
is($back && contact($back), contact($m), 'that Contact');
$core->reply($link, $back, 200, 'OK', contact => '') if $back;

$t->stop();

###############################################################################

sub contact {
    my ($m) = @_;

    return sip_header($m, 'Contact') =~ /<([^>]+)>/ ? $1 : '';
}

###############################################################################
